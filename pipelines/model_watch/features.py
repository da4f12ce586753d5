"""What is measured of one answer: length, refusal, style. Texts are hostile; everything here takes linear time."""

import json
from typing import Any, Final

import polars as pl

from pipelines.model_watch import refusals
from pipelines.model_watch.language import language
from store.model_answers import FEATURES

__all__ = ["features", "plain"]

_DEEPEST: Final = 12
_CHARACTERS: Final = 20_000
_OPENING_CHARACTERS: Final = 40
_LIST_ITEM: Final = r"(?m)^[ \t]*(?:[-*•–]|\d{1,3}[.)])[ \t]+\S"
_SENTENCE_END: Final = r"[.!?。！？…]+(?:\s|$)|\n{2,}"


def features(texts: pl.DataFrame) -> pl.DataFrame:
    """Measure answers (columns `store.model_answers.TEXTS`), one row each (columns `FEATURES`).

    Null where it cannot be measured: an answer that only calls tools has no style, and tokens per character only where
    all tokens went into the text.
    """
    spoken = [plain(each) for each in texts["output"].to_list()]
    tools = [each is not None and '"tool_calls"' in each for each in texts["output"].to_list()]
    frame = texts.with_columns(
        pl.Series("text", spoken, dtype=pl.String).str.replace_all("[’‘ʼ]", "'"),
        pl.Series("tools", tools, dtype=pl.Boolean),
    )
    text = pl.when(pl.col("text").str.contains(r"\S")).then(pl.col("text"))
    characters = text.str.len_chars().cast(pl.Float64)
    words = text.str.count_matches(r"[\p{L}\p{N}']+").cast(pl.Float64)
    sentences = pl.max_horizontal(text.str.count_matches(_SENTENCE_END), 1)
    lines = text.str.count_matches(r"(?m)^.*\S.*$")
    opening = text.str.to_lowercase().str.extract_all(r"[\p{L}\p{N}']+").list.head(2).list.join(" ")
    counted = (pl.col("output_tokens") > 0) & ~pl.col("tools")
    return frame.with_columns(
        language=language(pl.col("asked")),
        opening=pl.when(words > 0).then(opening.str.slice(0, _OPENING_CHARACTERS)),
        tokens_per_character=pl.when(counted).then(pl.col("output_tokens") / characters),
        length=characters,
        refusal=text.str.slice(0, refusals.BEGINNING).str.contains(refusals.pattern()).cast(pl.Float64),
        seconds=pl.when(pl.col("seconds") > 0).then(pl.col("seconds")),
        sentence_length=pl.when(words > 0).then(words / sentences),
        list_share=pl.when(lines > 0).then(text.str.count_matches(_LIST_ITEM) / lines),
        punctuation=text.str.count_matches(r"\p{P}") / characters * 100.0,
    ).select(pl.col(name).cast(kind) for name, kind in FEATURES.items())


def plain(output: str | None) -> str | None:
    """What an answer says: the texts in a JSON message or list of messages, else the text as it is; None for none."""
    if output is None or not output.strip():
        return None
    if output.lstrip()[0] not in "{[":
        return output
    try:
        document = json.loads(output)
    except (ValueError, RecursionError):
        return output
    found: list[str] = []
    if not _collect(document, found, _DEEPEST):
        return output
    return "\n".join(found)[:_CHARACTERS] or None


def _collect(value: Any, found: list[str], deepest: int) -> bool:
    """Add the texts of messages; False where nothing in it is a message."""
    if deepest == 0:
        return False
    if isinstance(value, list):
        # All of them, not only up to the first.
        return sum(_collect(each, found, deepest - 1) for each in value) > 0
    if not isinstance(value, dict):
        return False
    known = False
    for name in ("content", "text", "parts", "message", "choices", "output"):
        inner = value.get(name)
        if isinstance(inner, str):
            found.append(inner)
            known = True
        elif name in value:
            known = _collect(inner, found, deepest - 1) or (inner is None and "role" in value) or known
    return known
