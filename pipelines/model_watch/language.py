"""Which language a text is in, guessed from its script or its commonest words: enough to compare like with like."""

from collections.abc import Mapping
from typing import Final

import polars as pl

__all__ = ["LANGUAGES", "language"]

_WORDS: Final[Mapping[str, str]] = {
    "en": "the and you is are was for with that this have can what please how my from not",
    "de": "der die das und ist nicht ich sie ein eine mit auf für wie bitte mein von zu",
    "fr": "le la les et est une des pour que je vous dans pas avec mon sur comment bonjour",
    "es": "el los las es una para que por con como en hola quiero puedo del gracias tengo",
    "it": "il gli è una per che con come di ciao voglio della sono non vorrei grazie",
    "pt": "os é uma para que com meu como em olá quero você não da obrigado preciso",
    "nl": "het een en niet ik je voor met van hoe mijn dat op wat graag",
    "pl": "nie na się jest jak mój proszę czy dla chcę dzień dobry jestem",
}
_SCRIPTS: Final[Mapping[str, str]] = {
    "ja": r"[\p{Hiragana}\p{Katakana}]",
    "zh": r"\p{Han}",
    "ko": r"\p{Hangul}",
    "ru": r"\p{Cyrillic}",
    "ar": r"\p{Arabic}",
    "el": r"\p{Greek}",
    "he": r"\p{Hebrew}",
    "hi": r"\p{Devanagari}",
}
LANGUAGES: Final = (*_WORDS, *_SCRIPTS)
_CHARACTERS: Final = 500
_LEAST_LETTERS: Final = 4


def language(text: pl.Expr) -> pl.Expr:
    """A code of `LANGUAGES` for each text, '' where nothing tells; a script outranks words."""
    start = text.fill_null("").str.slice(0, _CHARACTERS).str.to_lowercase()
    counts = {
        code: start.str.count_matches(rf"(?:^|[^\p{{L}}])(?:{words.replace(' ', '|')})(?:[^\p{{L}}]|$)")
        for code, words in _WORDS.items()
    }
    best = pl.max_horizontal(*counts.values())
    # The first that holds, of scripts and then of words.
    return pl.coalesce(
        *(
            pl.when(start.str.count_matches(letters) >= _LEAST_LETTERS).then(pl.lit(code))
            for code, letters in _SCRIPTS.items()
        ),
        *(pl.when((count == best) & (best > 0)).then(pl.lit(code)) for code, count in counts.items()),
        pl.lit(""),
    )
