"""From one agent's traces and signals to the items of its measurement model.

What was said (thumbs, ratings, corrections, judges of what people would say) answers to the report, quality plus the
person's leniency; what was done or checked answers to quality alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import logit

from pipelines.rewards.clicks import MOST_POSITIONS, Lists
from pipelines.rewards.exposure import at_risk, too_young
from pipelines.rewards.latent import Item
from pipelines.rewards.measured import JudgeQuality, MeasurementConfig
from pipelines.rewards.response_models import Array, Event, Family, Graded, IntArray, Kept, Told
from pipelines.stats import delay
from pipelines.stats.contract import FitRefused

__all__ = ["AgentData", "Builder"]

_AGE_LEVELS = 40  # steps of the share of late events seen by a trace's age
_KEPT_STEP = 0.05  # logits; a tenth of the spread of drafts
_GRADES = 5
_NOT_SEEN = -1
_GUESS = 0.5  # |loading| where the fit starts
On = Literal["quality", "report"]


@dataclass(frozen=True)
class AgentData:
    """One agent's traces (`age_hours`, `last`, `user`, in order of row) and its located signals with local `at`."""

    agent: str | None
    traces: pl.DataFrame
    signals: pl.DataFrame

    @property
    def size(self) -> int:
        """Number of traces."""
        return self.traces.height

    def of(self, kind: str) -> pl.DataFrame:
        """Signals of one kind by people or code, not by a language model."""
        return self.signals.filter((pl.col("kind") == kind) & (pl.col("annotator_kind") != "llm").fill_null(True))


@dataclass
class Builder:
    """Collects items and the notes on what could not become one. `mean` is a first guess of μ (logits)."""

    data: AgentData
    config: MeasurementConfig
    mean: float
    items: list[Item] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    delays: list[tuple[str, delay.DelayFit]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.age: Array = self.data.traces["age_hours"].to_numpy()
        self.last: NDArray[np.bool_] = self.data.traces["last"].to_numpy()

    # ----- what people say -----

    def anchor(self, kind: str, basis: str, values: pl.DataFrame) -> None:
        """The item that fixes the scale: `values` has `at` and `value`; above .5 is satisfied."""
        states = self._latest(values, values["value"].to_numpy() > 0.5)
        on: On = "report" if kind in ("thumb", "rating") else "quality"
        self._add(kind, basis, Event(np.array([0.0, 1.0]), np.ones(2), np.zeros(0), fixed=True), on, "said", states,
                  basis=basis, anchor=True)  # fmt: skip

    def told(self, kind: str, values: pl.DataFrame, asked: IntArray) -> bool:
        """Volunteered answers on the anchor's scale, with who speaks up; `asked` are traces asked at random.

        Returns False where too few spoke up to tell.
        """
        up = values["value"].to_numpy() > 0.5
        if values.height < self.config.min_events or not up.any() or up.all():
            self._too_few(kind, "volunteered", values.height, constant=values.height >= self.config.min_events)
            return False
        states = np.zeros(self.data.size, dtype=np.int64)
        states[too_young(self.age, values["delay_hours"].fill_null(float("nan")).to_numpy())] = _NOT_SEEN
        said = self._latest(values, up)
        states[said >= 0] = np.where(said[said >= 0] == 1, 1, 2)
        states[asked] = _NOT_SEEN
        at_risk_count = max(int((states >= 0).sum()), 1)
        start = np.clip(np.array([(states == 1).sum(), (states == 2).sum()]) / at_risk_count * 2.0, 1e-4, 0.9)
        self._add(kind, "volunteered", Told(np.asarray(logit(start))), "report", "said", states, basis="volunteered",
                  signalled=[False, True, True], score=[0.0, 1.0, -1.0])  # fmt: skip
        return True

    def given(self, kind: str, values: pl.DataFrame) -> None:
        """Whether somebody speaks at all: it depends on quality, and silence says something."""
        rows = values["at"].unique().to_numpy()
        absent = ~too_young(self.age, values["delay_hours"].fill_null(float("nan")).to_numpy())
        self._event(kind, "given", rows, absent, on="report", group="said", basis="volunteered", sign=-1.0)

    def valued(self, kind: str, name: str | None, values: pl.DataFrame, *, on: On, group: str, basis: str) -> None:
        """Values in 0..1 as an event where there are two of them, as grades where there are more."""
        grade = (values["value"] * (_GRADES - 1)).round(0).cast(pl.Int64).to_numpy()
        if values["value"].is_in([0.0, 1.0]).all():
            grade = (values["value"].to_numpy() > 0.5).astype(np.int64)
        used, codes = np.unique(grade, return_inverse=True)
        if len(values) < self.config.min_events or len(used) < 2:
            self._too_few(kind, name, len(values), constant=len(values) >= self.config.min_events)
            return
        states = self._latest(values, codes)
        seen = states[states >= 0]
        if len(used) == 2:
            self._add(kind, name, self._bernoulli(float(seen.mean()), 1.0), on, group, states, basis=basis)
            return
        below = np.clip(np.cumsum(np.bincount(seen, minlength=len(used)))[:-1] / len(seen), 0.005, 0.995)
        cut = np.asarray(logit(below)) + _GUESS * self.mean
        start = np.concatenate([cut[:1], np.log(np.maximum(np.diff(cut), 0.05)), [_GUESS]])
        self._add(kind, name, Graded(start), on, group, states, basis=basis, signalled=[True] * len(used),
                  score=used.astype(np.float64))  # fmt: skip

    # ----- what people do -----

    def event(self, kind: str, *, sign: float, by_session: bool) -> None:
        """Something that happens or not among the traces at risk."""
        signals = self.data.of(kind)
        rows = signals["at"].unique().to_numpy()
        risk = at_risk(rows, self.last, by_session=by_session)
        absent = risk & ~too_young(self.age, signals["delay_hours"].fill_null(float("nan")).to_numpy())
        self._event(kind, None, rows[risk[rows]], absent, on="quality", group=kind, basis="observed", sign=sign)

    def delayed(self, kind: str) -> None:
        """An event that may still come: a trace without it counts by the share of such events seen at its age."""
        signals = (
            self.data.of(kind).sort("delay_hours", nulls_last=True).unique("at", keep="first", maintain_order=True)
        )
        rows = signals["at"].to_numpy()
        risk = at_risk(rows, self.last, by_session=True) & np.isfinite(self.age) & (self.age > 0.0)
        signals = signals.filter(pl.Series(risk[rows]))
        rows, came = signals["at"].to_numpy(), signals["delay_hours"].fill_null(float("nan")).to_numpy()
        if len(rows) < self.config.min_events:
            if len(rows):
                self._too_few(kind, None, len(rows), constant=False)
            return
        ages = np.flatnonzero(risk)
        happened = np.full(self.data.size, np.nan)
        happened[rows] = np.maximum(came, 1.0 / 3600.0)
        usable = ages[np.isnan(happened[ages]) | (happened[ages] <= self.age[ages])]
        try:
            fitted = delay.fit(happened[usable], self.age[usable])
        except FitRefused as refused:
            self.notes.append(
                ("delay_unknown", f"{kind}: {refused} Traces younger than nearly all delays are left out instead.")
            )
            absent = risk & ~too_young(self.age, came)
            self._event(kind, None, rows, absent, on="quality", group=kind, basis="observed", sign=1.0)
            return
        self.delays.append((kind, fitted))
        levels = np.arange(1, _AGE_LEVELS + 1) / _AGE_LEVELS
        level = np.rint(fitted.seen(np.where(risk, self.age, 0.0)) * _AGE_LEVELS).astype(np.int64) - 1
        states = np.where(risk & (level >= 0), level, _NOT_SEEN)
        states[rows] = _AGE_LEVELS
        family = Event(
            np.concatenate([np.zeros(_AGE_LEVELS), [1.0]]),
            np.concatenate([levels, [1.0]]),
            np.array([float(logit(np.clip(fitted.eventual, 0.01, 0.99))) - _GUESS * self.mean, _GUESS]),
        )
        self._add(kind, None, family, "quality", kind, states, basis="observed",
                  signalled=[False] * _AGE_LEVELS + [True], score=[0.0] * _AGE_LEVELS + [1.0])  # fmt: skip

    def edits(self) -> None:
        """The share of a draft that people keep; whether a draft was edited at all says nothing here."""
        signals = self.data.of("edit")
        if signals.height < self.config.min_events or signals["value"].n_unique() < 3:
            if signals.height:
                self._too_few("edit", None, signals.height, constant=signals.height >= self.config.min_events)
            return
        kept = np.asarray(logit(np.clip(signals["value"].to_numpy(), 0.01, 0.99)))
        values, codes = np.unique(np.rint(kept / _KEPT_STEP).astype(np.int64), return_inverse=True)
        levels: Array = np.asarray(values, dtype=np.float64) * _KEPT_STEP
        family = Kept(levels, np.array([float(kept.mean()) - _GUESS * self.mean, _GUESS, np.log(max(kept.std(), 0.1))]))
        self._add("edit", None, family, "quality", "edit", self._latest(signals, codes), basis="observed",
                  signalled=[True] * len(levels), score=levels)  # fmt: skip

    def clicks(self, lists: Lists, examination: Array, basis: str) -> None:
        """Clicks in lists by position; `examination` (positions,) from 1."""
        scale = np.clip(np.repeat(examination, 2), 1e-3, 1.0)
        occurred = np.tile([0.0, 1.0], MOST_POSITIONS)
        seen = lists.drawn[lists.drawn >= 0]
        happened = int((seen % 2).sum())
        if happened < self.config.min_events:
            self._too_few("click", None, happened, constant=False)
            return
        rate = np.clip(happened / scale[seen].sum(), 0.01, 0.9)
        family = Event(occurred, scale, np.array([float(logit(rate)) - _GUESS * self.mean, _GUESS]))
        self._add("click", None, family, "quality", "list", lists.drawn, basis=basis,
                  signalled=[True] * len(scale), score=occurred, lists=lists.members, list_of=lists.code)  # fmt: skip

    # ----- what is checked or judged -----

    def judged(self, judges: Mapping[str, JudgeQuality]) -> None:
        """Verdicts of language models, only with error rates measured against people's labels."""
        verdicts = self.data.signals.filter(
            (pl.col("kind") == "judge")
            | (pl.col("kind").is_in(["outcome", "annotation", "rating", "thumb"]) & (pl.col("annotator_kind") == "llm"))
        )
        for (name,), values in verdicts.group_by("name", maintain_order=True):
            quality = judges.get(str(name))
            if quality is None or quality.labels < self.config.min_judge_labels:
                labels = 0 if quality is None else quality.labels
                text = (
                    f"{values.height} verdicts of the judge {name} are not used: its error rates rest on {labels} "
                    f"labels by people, {self.config.min_judge_labels} are needed."
                )
                self.notes.append(("judge_unmeasured", text))
                continue
            r1, r0 = quality.sensitivity, 1.0 - quality.specificity
            if not (0.0 <= r0 < r1 <= 1.0):
                text = f"The judge {name} says yes no more often where people are satisfied: its verdicts say nothing."
                self.notes.append(("judge_uninformative", text))
                continue
            states = self._latest(values, values["value"].to_numpy() > 0.5)
            rates = (float(np.clip(r1, 0.001, 0.999)), float(np.clip(r0, 0.001, 0.999)))
            self._add("judge", str(name), Told(np.zeros(0), rates), "report", "judged", states, basis="judged",
                      estimated=False)  # fmt: skip

    # ----- shared -----

    def _event(
        self, kind: str, name: str | None, rows: IntArray, absent: NDArray[np.bool_], *, on: On, group: str, basis: str,
        sign: float,
    ) -> None:  # fmt: skip
        states = np.where(absent, 0, _NOT_SEEN)
        states[rows] = 1
        happened, silent = int((states == 1).sum()), int((states == 0).sum())
        if happened == 0:
            return
        if min(happened, silent) < self.config.min_events:
            self._too_few(kind, name, happened, constant=happened >= self.config.min_events)
            return
        family = self._bernoulli(happened / (happened + silent), sign)
        self._add(kind, name, family, on, group, states, basis=basis, signalled=[False, name is None])

    def _bernoulli(self, rate: float, sign: float) -> Event:
        intercept = float(logit(np.clip(rate, 0.005, 0.995))) - sign * _GUESS * self.mean
        return Event(np.array([0.0, 1.0]), np.ones(2), np.array([intercept, sign * _GUESS]))

    def _latest(self, values: pl.DataFrame, codes: NDArray[np.generic]) -> IntArray:
        """States by trace; where a trace has several, the latest counts: people correct themselves."""
        states = np.full(self.data.size, _NOT_SEEN, dtype=np.int64)
        order = values["occurred_at"].arg_sort(nulls_last=False).to_numpy()
        states[values["at"].to_numpy()[order]] = codes[order]
        return states

    def _too_few(self, kind: str, name: str | None, count: int, *, constant: bool) -> None:
        what = kind if name is None else f"{kind} ({name})"
        if constant:
            text = f"All {count} signals of {what} say the same: they separate nothing and are left out."
            self.notes.append(("constant_labels", text))
        else:
            text = f"{what} has {count} signals; {self.config.min_events} are needed to learn what they mean."
            self.notes.append(("few_signals", text))

    def _add(
        self, kind: str, name: str | None, family: Family, on: On, group: str, states: IntArray, *, basis: str,
        signalled: list[bool] | None = None, score: list[float] | Array | None = None, anchor: bool = False,
        estimated: bool = True, lists: Array | None = None, list_of: IntArray | None = None,
    ) -> None:  # fmt: skip
        count = len(signalled) if signalled is not None else 2
        self.items.append(
            Item(
                kind, name, family, on, group, basis, states,
                np.array(signalled if signalled is not None else [True, True]),
                np.asarray(score if score is not None else np.arange(count), dtype=np.float64),
                anchor, estimated, lists, list_of,
            )
        )  # fmt: skip
