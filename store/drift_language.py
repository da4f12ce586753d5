"""The language of a text, by its script and, of Latin script, by small frequent words: SQL, the same each time.

Deliberately simple: it has to notice that somebody writes in another language, not to know every language. A Latin
text is of the language of which it has the most words of the list, at least `LEAST_WORDS`; the first listed
where two have as many; else it is "undetermined", as short and technical texts are.
"""

from typing import Final

__all__ = ["LEAST_WORDS", "LOOKED_AT", "SCRIPTS", "WORDS", "language"]

LOOKED_AT: Final = 200  # characters from the beginning
LEAST_WORDS: Final = 2

# In this order: Japanese uses Han characters too.
SCRIPTS: Final = {
    "Japanese": r"\p{Hiragana}|\p{Katakana}", "Chinese": r"\p{Han}", "Korean": r"\p{Hangul}",
    "Cyrillic script": r"\p{Cyrillic}", "Arabic script": r"\p{Arabic}", "Hebrew": r"\p{Hebrew}",
    "Devanagari script": r"\p{Devanagari}", "Greek": r"\p{Greek}{3}", "Thai": r"\p{Thai}",
}  # fmt: skip

# Words that no other language of the list shares, but for a few.
WORDS: Final = {
    "English": "the and is are of to my you please can for with what how do it this that have i",
    "German": "der die das und ist nicht ich bitte wie kann mein meine ein eine für mit zu auf wir sie",
    "French": "le la les et est je vous pas une mon ma pour avec dans comment puis des du il sur",
    "Spanish": "el los las y es yo por favor una mi para con cómo qué puedo del que no en lo",
    "Italian": "il gli e è io per una mio mia con come che posso non di sono della questo ho un",
    "Portuguese": "o os as e eu por favor uma meu minha para com como que posso não do da em um",
    "Dutch": "de het een en is ik niet mijn kan hoe voor met van op je wij zijn dat wat u",
}  # fmt: skip


def language(column: str) -> str:
    """SQL for the language of the text in `column`; null for a text without letters, and for null."""
    text = f"left({column}, {LOOKED_AT})"
    scripts = "".join(f" WHEN regexp_matches({text}, '{pattern}') THEN '{name}'" for name, pattern in SCRIPTS.items())
    # Two spaces between words: a match takes the one before and the one after its word.
    spaced = f"'  ' || regexp_replace(lower({text}), '[^\\p{{L}}]+', '  ', 'g') || '  '"
    counts = ", ".join(f"len(regexp_extract_all(w, ' (?:{listed.replace(' ', '|')}) '))" for listed in WORDS.values())
    names = ", ".join(f"'{name}'" for name in WORDS)
    most = f"""CASE WHEN list_max(c) >= {LEAST_WORDS} THEN [{names}][list_position(c, list_max(c))]
        ELSE 'undetermined' END"""
    # Each lambda names what is computed once and used more than once.
    latin = f"list_transform([{spaced}], lambda w: list_transform([[{counts}]], lambda c: {most})[1])[1]"
    # A text with as many bytes as characters is ASCII: no other script has to be looked for.
    scripts = f"CASE WHEN strlen({text}) = length({text}) THEN NULL{scripts} END"
    latin = f"coalesce({scripts}, {latin})"
    return f"CASE WHEN regexp_matches({text}, '\\p{{L}}') THEN {latin} END"
