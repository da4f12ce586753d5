"""Which arguments a call gives and of which type, read from its shape (`store.failures.CALLS`)."""

import json
from collections.abc import Iterable
from typing import Final

import polars as pl

__all__ = ["ARGUMENTS", "TYPES", "given", "read"]

TYPES: Final = {
    "D": "a date", "N": "a number in quotes", "S": "text", "0": "a number", "B": "true or false", "_": "null",
    "A": "a list", "O": "an object",
}  # fmt: skip
ARGUMENTS: Final = pl.Schema({"shape": pl.String(), "argument": pl.String(), "type": pl.String()})
_MOST_SHAPES: Final = 500  # of one tool: more of them, and its arguments are free-form
_MARKS: Final = tuple(f"@{mark}" for mark in TYPES)


def read(shapes: Iterable[str]) -> pl.DataFrame:
    """One row per shape and top-level argument with its type in words (columns ARGUMENTS).

    Shapes that are no JSON object after all are left out, and arguments that are null count as not given.
    """
    rows: list[tuple[str, str, str]] = []
    for shape in shapes:
        try:
            stated = json.loads(_quoted(shape))
        except (ValueError, RecursionError):
            continue
        if not isinstance(stated, dict):
            continue
        for argument, value in stated.items():
            mark = "O" if isinstance(value, dict) else value[1:] if isinstance(value, str) else ""
            if mark in TYPES and mark != "_":
                rows.append((shape, argument, TYPES[mark]))
    return pl.DataFrame(rows, schema=ARGUMENTS, orient="row")


def given(known: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """What calls give, of calls (row, tool, shape): four frames.

    Codes of arguments and of their types (code, tool, type, argument, text), where type is null for the argument
    itself; which rollouts give an argument (row, tool, argument); of which type (row, tool, other); which call the tool
    with readable arguments at all (row, tool). What all shapes of a tool have in common is left out.
    """
    called = known.filter(pl.col("shape").is_not_null()).select("row", "tool", "shape").unique()
    kept = called.select("tool", "shape").unique().filter(pl.col("shape").n_unique().over("tool") <= _MOST_SHAPES)
    texts = kept.with_columns(text=pl.col("shape").cast(pl.String))
    found = texts.join(read(texts["text"].unique().sort().to_list()), left_on="text", right_on="shape").drop("text")
    pairs = found.select("tool", "argument").unique().with_columns(type=pl.lit(None, pl.String))
    typed = found.select("tool", "argument", "type").unique()
    codes = pl.concat([pairs, typed]).sort("tool", "argument", "type", nulls_last=False).with_row_index("code")
    codes = codes.with_columns(code=pl.col("code") + 1)
    whole = codes.filter(pl.col("type").is_null()).select("tool", "argument", whole="code")
    codes = codes.join(whole, on=["tool", "argument"]).select("code", "tool", "type", argument="whole", text="argument")
    named = codes.select("code", "tool", "type", "argument", "text")
    of_shape = found.rename({"argument": "text"}).join(named, on=["tool", "text", "type"], suffix="_code")
    own = of_shape.select("tool", "shape", "argument").unique()
    shapes = of_shape.select("tool", "shape", other="code").unique()
    called = called.join(kept, on=["tool", "shape"], how="semi")
    # What every call does the same way cannot tell calls apart, and it is most of what there is.
    varied = own.filter(pl.len().over("argument") < pl.col("tool").replace_strict(*_counts(kept), default=0))
    many = codes.filter(pl.col("type").is_not_null()).filter(pl.len().over("argument") > 1)
    asked = pl.concat([varied["argument"], many["argument"]]).unique()
    own = own.filter(pl.col("argument").is_in(asked.implode()))
    shapes = shapes.filter(pl.col("other").is_in(many["code"].implode()))
    return (
        codes,
        called.join(own, on=["tool", "shape"]).select("row", "tool", "argument").unique(),
        called.join(shapes, on=["tool", "shape"]).select("row", "tool", "other").unique(),
        called.select("row", "tool").unique(),
    )


def _counts(kept: pl.DataFrame) -> tuple[list[int], list[int]]:
    counted = kept.group_by("tool").len()
    return counted["tool"].to_list(), counted["len"].to_list()


def _quoted(shape: str) -> str:
    for mark in _MARKS:
        shape = shape.replace(f":{mark}", f':"{mark}"')
    return shape
