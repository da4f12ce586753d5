"""The features of a trace as a matrix, and the encoder that makes the same matrix of traces that come later.

Columns, all readable and none from a signal: agent, version, arm, model and status; numbers (how long, how many steps,
tokens, money) against their agent's usual value, straight and in five ranges; tokens of the steps (see
`store.reward_features`); metadata of few values; metadata numbers, and their products with metadata of few values (what
one segment likes, another may not); words and topics of request and answer. Tasks and people are not columns: they are
group effects of the model (`trace_model`).

An encoder learns levels, means and vocabularies from the traces alone, never from labels, so it is no part of what
cross-fitting must keep apart; its parameters are plain JSON.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.rewards.text_features import TextEncoder, fit_texts

__all__ = ["Column", "Encoder", "fit_encoder", "metadata_name"]

Floats = NDArray[np.float32]

_NUMBERS = (
    "seconds", "input_tokens", "output_tokens", "cost_usd", "span_count", "error_count", "tool_count", "llm_count",
    "retriever_count", "guardrail_count", "tool_errors", "tool_seconds", "tool_names", "input_length",
    "output_length", "output_lines",
)  # fmt: skip
_LEVELS = ("agent", "agent_version", "arm", "model", "status")
_MOST_LEVELS = 40
_EDGES = (-1.0, -0.35, 0.35, 1.0)  # of the five ranges, in standard deviations
_CLIP = 3.0
_LARGEST = 1e100  # number that is told from larger ones: its square is still one
_LOGGING = ("steer.", "solicitation.")  # what the logging policy notes of itself; only whether it explored is kept
_KEPT_LOGGING = ("steer.explore",)
_INTERACTING_LEVELS = 12


@dataclass(frozen=True)
class Column:
    """A column of the matrix: `agent` null where it means the same for all agents."""

    agent: str | None
    feature: str
    kind: str  # number, step, text, arm, person, interaction


@dataclass(frozen=True)
class Encoder:
    """How traces become rows. Every mapping is by name; a level that was not there when it was fitted is all zeros."""

    levels: dict[str, list[str]]
    usual: dict[str, list[list[float]]]  # number -> per agent (in order of levels["agent"], then any other) mean, sd
    tokens: tuple[str, ...]
    numbers: dict[str, tuple[float, float]]  # metadata path -> mean, sd
    categories: dict[str, list[str]]  # metadata path -> levels
    texts: dict[str, TextEncoder]

    def columns(self) -> list[Column]:
        """What each column of `transform` is."""
        columns = [Column(None, f"{name} {level}", "arm") for name, levels in self.levels.items() for level in levels]
        for name in self.usual:
            plain = name.replace("_", " ")
            columns += [Column(None, plain, "number")]
            columns += [Column(None, f"{plain}: {label}", "number") for label in _RANGES]
        columns += [Column(None, token, "step") for token in self.tokens]
        columns += [
            Column(None, f"{metadata_name(path)} {level}", "person")
            for path, levels in self.categories.items()
            for level in levels
        ]
        columns += [Column(None, metadata_name(path), "person") for path in self.numbers]
        columns += [
            Column(None, f"{metadata_name(number)} x {metadata_name(path)} {level}", "interaction")
            for number in self.numbers
            for path, level in self._interacting()
        ]
        return columns + [
            Column(None, f"{name}: {feature}", "text") for name, text in self.texts.items() for feature in text.names
        ]

    def transform(self, facts: pl.DataFrame, tokens: pl.DataFrame, start: int, stop: int) -> Floats:
        """Rows `start` to `stop` of the material as a matrix (rows, columns). `tokens` is sorted by row."""
        part = with_lengths(facts.slice(start, stop - start))
        n = part.height
        blocks: list[Floats] = [_one_hot(part[name], levels) for name, levels in self.levels.items()]
        agent = _codes(part["agent"], self.levels["agent"])
        for name, usual in self.usual.items():
            blocks.append(_against_usual(part[name], agent, np.array(usual)))
        blocks.append(self._steps(tokens, start, stop))
        categories = {path: _one_hot(part[path], levels) for path, levels in self.categories.items()}
        blocks += categories.values()
        numbers = {path: _standard(part[path], *usual) for path, usual in self.numbers.items()}
        blocks += [values[:, None] for values in numbers.values()]
        interacting = [categories[path][:, self.categories[path].index(level)] for path, level in self._interacting()]
        if interacting and numbers:
            modifiers = np.stack(interacting, axis=1)
            blocks += [values[:, None] * modifiers for values in numbers.values()]
        blocks += [text.transform(part[name]) for name, text in self.texts.items()]
        return np.concatenate(blocks, axis=1, dtype=np.float32) if blocks else np.zeros((n, 0), np.float32)

    def parameters(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "levels": self.levels,
            "usual": self.usual,
            "tokens": list(self.tokens),
            "numbers": {name: list(usual) for name, usual in self.numbers.items()},
            "categories": self.categories,
            "texts": {name: text.parameters() for name, text in self.texts.items()},
        }

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> "Encoder":
        """From what `parameters` gave."""
        return cls(
            levels=parameters["levels"],
            usual=parameters["usual"],
            tokens=tuple(parameters["tokens"]),
            numbers={name: (float(usual[0]), float(usual[1])) for name, usual in parameters["numbers"].items()},
            categories=parameters["categories"],
            texts={name: TextEncoder.of(text) for name, text in parameters["texts"].items()},
        )

    def _interacting(self) -> list[tuple[str, str]]:
        return [
            (path, level)
            for path, levels in self.categories.items()
            if len(levels) <= _INTERACTING_LEVELS
            for level in levels
        ]

    def _steps(self, tokens: pl.DataFrame, start: int, stop: int) -> Floats:
        matrix = np.zeros((stop - start, len(self.tokens)), np.float32)
        rows = tokens["row"]
        first, last = int(rows.search_sorted(start, "left")), int(rows.search_sorted(stop, "left"))
        part = tokens.slice(first, last - first)
        # A second occurrence says less than the first, a fifth hardly anything.
        matrix[part["row"].to_numpy().astype(np.int64) - start, part["token"].to_numpy()] = np.minimum(
            part["n"].to_numpy(), 3
        )
        return matrix


def fit_encoder(
    facts: pl.DataFrame,
    tokens: Sequence[str],
    numbers: Sequence[str],
    categories: Sequence[str],
    *,
    sample: int = 30_000,
) -> Encoder:
    """Learn an encoder from the material's facts, leaving out nothing but what `leakage` and logging rule out.

    `tokens` are in the order of their numbers in the material. Texts and means are learned from at most `sample` traces
    evenly spread over the frame.
    """
    step = max(1, facts.height // sample)
    part = with_lengths(facts.gather_every(step))
    levels = {name: _frequent(part[name], facts.height) for name in _LEVELS}
    agent = _codes(part["agent"], levels["agent"])
    used_categories = [path for path in categories if _usable(path)]
    return Encoder(
        levels=levels,
        usual={
            name: _usual(part[name], agent, len(levels["agent"]) + 1)
            for name in _NUMBERS
            if part[name].null_count() < part.height and (part[name].drop_nulls().n_unique() > 1)
        },
        tokens=tuple(tokens),
        numbers={
            path: _mean_sd(part[path]) for path in numbers if _usable(path) and part[path].drop_nulls().n_unique() > 1
        },
        categories={path: found for path in used_categories if len(found := _frequent(part[path], facts.height)) > 1},
        texts={name: fit_texts(part[name]) for name in ("input", "output") if part[name].null_count() < part.height},
    )


def metadata_name(path: str) -> str:
    """A metadata path as people read it: `$."answer_features"."price"` is answer_features.price."""
    return path.removeprefix('$."').removesuffix('"').replace('"."', ".")


def with_lengths(facts: pl.DataFrame) -> pl.DataFrame:
    """The facts with the lengths of their texts (previews end at 500 characters; tokens tell the whole)."""
    return facts.with_columns(
        input_length=pl.col("input").str.len_chars().cast(pl.Float64),
        output_length=pl.col("output").str.len_chars().cast(pl.Float64),
        output_lines=pl.col("output").str.count_matches("\n", literal=True).cast(pl.Float64),
    )


_RANGES = ("very low", "low", "usual", "high", "very high")


def _usable(path: str) -> bool:
    name = metadata_name(path)
    return name in _KEPT_LOGGING or not name.startswith(_LOGGING)


def _frequent(values: pl.Series, rows: int) -> list[str]:
    counts = values.drop_nulls().value_counts(name="n").sort("n", values.name, descending=[True, False])
    least = 5 if rows >= 200 else 1
    return counts.filter(pl.col("n") >= least)[values.name].head(_MOST_LEVELS).cast(pl.String).to_list()


def _codes(values: pl.Series, levels: list[str]) -> NDArray[np.int64]:
    """Index of each value among the levels; their number for any other value."""
    codes = values.cast(pl.String).cast(pl.Enum(levels), strict=False).to_physical().cast(pl.Int64)
    return codes.fill_null(len(levels)).to_numpy()


def _one_hot(values: pl.Series, levels: list[str]) -> Floats:
    codes = _codes(values, levels)
    return np.asarray(codes[:, None] == np.arange(len(levels)), dtype=np.float32)


def _usual(values: pl.Series, agent: NDArray[np.int64], agents: int) -> list[list[float]]:
    """Mean and standard deviation of log(1 + value) per agent; of all where an agent has none."""
    logs = np.log1p(np.maximum(values.fill_null(np.nan).to_numpy(), 0.0))
    known = np.isfinite(logs)
    overall = [float(logs[known].mean()), float(max(logs[known].std(), 1e-3))]
    rows = []
    for code in range(agents):
        own = logs[known & (agent == code)]
        spread = float(own.std()) if len(own) >= 5 else 0.0
        rows.append([float(own.mean()) if len(own) >= 5 else overall[0], spread if spread > 1e-3 else overall[1]])
    return rows


def _against_usual(values: pl.Series, agent: NDArray[np.int64], usual: NDArray[np.float64]) -> Floats:
    logs = np.log1p(np.maximum(values.fill_null(np.nan).to_numpy(), 0.0))
    standard = np.clip((logs - usual[agent, 0]) / usual[agent, 1], -_CLIP, _CLIP)
    known = np.isfinite(standard)
    ranges = np.searchsorted(_EDGES, np.where(known, standard, 0.0))
    one_hot = (ranges[:, None] == np.arange(len(_RANGES))) & known[:, None]
    return np.concatenate([np.where(known, standard, 0.0)[:, None], one_hot], axis=1, dtype=np.float32)


def _mean_sd(values: pl.Series) -> tuple[float, float]:
    known = np.clip(values.drop_nulls().to_numpy(), -_LARGEST, _LARGEST)
    return float(known.mean()), float(max(known.std(), 1e-6))


def _standard(values: pl.Series, mean: float, sd: float) -> Floats:
    standard = (np.clip(values.fill_null(mean).to_numpy(), -_LARGEST, _LARGEST) - mean) / sd
    return np.asarray(np.clip(np.nan_to_num(standard), -_CLIP, _CLIP), dtype=np.float32)
