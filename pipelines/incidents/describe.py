"""An incident in words, and its suspected cause with the evidence for it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from pipelines.drift.metrics import metric
from pipelines.incidents.causes import Suspect
from pipelines.incidents.explained import worse
from pipelines.incidents.grouping import Group
from pipelines.lessons.paragraphs import one_line
from store.errors import NotFound

__all__ = ["Cause", "Coincidence", "first_harm", "harms", "judge", "text_of", "title_of"]

UNKNOWN: Final = "unknown"
_LISTED: Final = 8
_NAMED: Final = 80  # characters of a name that traces state
_LEAST: Final = 0.2  # of the shift, at the lower end of the interval
_COINCIDENCE: Final = 0.45  # as good as a share of so much: something known happened at that very time
# What the model watch saw was tested on other figures than those that moved here, so it counts for more.
_WATCHED: Final = 0.6


@dataclass(frozen=True)
class Coincidence:
    """What is known to have happened when the change may have: a change of a model, or an intervention."""

    cause: str
    name: str
    happened_at: datetime
    text: str
    intervention_id: str | None = None

    @property
    def weight(self) -> float:
        """As good as a share of the shift of so much, at the lower end of its interval."""
        return _WATCHED if self.cause == "model" and self.intervention_id is None else _COINCIDENCE


@dataclass(frozen=True)
class Cause:
    """The suspected cause, its name ('' where unknown), and all evidence that JSON can hold."""

    cause: str
    name: str
    text: str
    detail: Mapping[str, Any]


def harms(group: Group) -> bool:
    """Whether users fare worse by any of the metrics that moved."""
    return any(worse(name, direction) for name, direction in group.moved.select("metric", "direction").iter_rows())


def first_harm(group: Group) -> str:
    """The metric that an incident is named after: the first that moved for the worse, else the first."""
    for name, direction in group.moved.select("metric", "direction").iter_rows():
        if worse(name, direction):
            return str(name)
    return group.metrics[0]


def judge(
    group: Group, suspects: Sequence[Suspect], coincidences: Sequence[Coincidence], *, judged_by: str, traces: int
) -> Cause:
    """The best founded cause. Shares were measured on `traces` traces by the metric `judged_by`."""
    ranked: list[tuple[float, str, str, str]] = [
        (one.lower, one.cause, one.name, _measured(one)) for one in suspects if one.lower >= _LEAST
    ]
    ranked += [(one.weight, one.cause, one.name, one.text) for one in coincidences]
    ranked.sort(key=lambda one: -one[0])
    _, cause, name, text = ranked[0] if ranked else (0.0, UNKNOWN, "", _unknown(traces))
    alike = [one for one in ranked[1:] if one[1] != cause and one[0] >= ranked[0][0] - 0.05]
    if alike:
        text += f" {alike[0][1].capitalize()} {alike[0][2]} came at the same time and cannot be told apart from it."
    detail = {
        "text": text,
        "name": name,
        "metric": judged_by,
        "traces": traces,
        "segments": list(group.segments),
        "suspects": [asdict(one) for one in suspects[:_LISTED]],
        "coincidences": [{**asdict(one), "happened_at": one.happened_at.isoformat()} for one in coincidences[:_LISTED]],
    }
    return Cause(cause, name, text, detail)


def title_of(group: Group, cause: Cause) -> str:
    """One line: what moved, for whom, and what is suspected."""
    name = first_harm(group)
    direction = dict(group.moved.select("metric", "direction").iter_rows())[name]
    verb = {"up": "rose", "down": "fell"}.get(direction, "changed")
    more = len(group.metrics) - 1
    others = f" (and {more} more metric{'s' if more > 1 else ''})" if more else ""
    suspected = f": {cause.cause} {one_line(cause.name)[:_NAMED]} suspected" if cause.name else ""
    return f"{_title(name)} {verb}{others} for {_whom(group)}{suspected}"


def text_of(group: Group, cause: Cause) -> str:
    """The same in a few sentences, with numbers."""
    told = []
    for row in group.moved.head(4).iter_rows(named=True):
        before, after = row["before_mean"], row["after_mean"]
        means = f" from {before:.4g} to {after:.4g}" if before is not None and after is not None else ""
        told.append(f"{_title(row['metric'])}{means} ({row['moved_at']:%Y-%m-%d %H:%M} UTC)")
    counted = f"{group.users:,} of {group.scanned:,} users were flagged by themselves. " if group.scanned else ""
    return f"What moved, the first one first: {'; '.join(told)}. {counted}{cause.text}"


def _whom(group: Group) -> str:
    agent = f" of {one_line(group.agent)[:_NAMED]}" if group.agent is not None else ""
    if not group.segments:
        return f"all users{agent}"
    named = ", ".join(one_line(name)[:_NAMED] for name in group.segments[:3]) + (
        " and others" if len(group.segments) > 3 else ""
    )
    return f"{'segment' if len(group.segments) == 1 else 'segments'} {named}{agent}"


def _title(name: str) -> str:
    try:
        return metric(name).title
    except NotFound:
        return name


def _measured(one: Suspect) -> str:
    share = f"{_share(one.share)} of the shift ({_share(one.lower)} to {_share(one.upper)})"
    n = f"{one.n_before:,} traces before, {one.n_after:,} after"
    if one.how == "moved over":
        away = f" from {one.before}" if one.before else ""
        return f"Traces moved over{away} to {one.cause} {one.name}: that explains {share}; {n}."
    return f"Only traces with {one.cause} {one.name} changed: leaving them out takes away {share}; {n}."


def _share(number: float) -> str:
    return f"{min(max(number, 0.0), 1.0):.0%}"


def _unknown(traces: int) -> str:
    if not traces:
        return "Too few traces around the change say what they ran, so no cause is suspected."
    return f"Nothing that {traces:,} traces around the change ran explains it: no cause is suspected."
