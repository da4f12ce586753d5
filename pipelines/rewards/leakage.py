"""Features that would give away what is to be predicted: refused by name, with the reason.

Three ways in which a feature leaks: its name says that it is the outcome; it becomes known after the trace has ended
(`known_at`); or it tells the label nearly without error, which no feature of an honest trace does. A split leaks when
the same question or person is on both of its sides. What is refused is reported, never dropped in silence.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from store.errors import JobError

__all__ = ["LeakedSplit", "Refused", "check_split", "refuse"]

# Words by which systems call the outcome, feedback on it or a verdict about it.
_NAMED = re.compile(
    r"(?:^|[^a-z])(outcomes?|rewards?|labels?|scores?|feedback|thumbs?|ratings?|judg\w*|verdicts?|grades?|correct(?:ness)?"
    r"|satisf\w*|success\w*|failed|failure\w*|resolved|purchas\w*|bought|clicks?|clicked|annotat\w*|csat|nps|quality"
    r"|evaluat\w*|ground_?truth|gold|truth|theta|refunded|churn\w*|retried)(?:[^a-z]|$)",
    re.IGNORECASE,
)
_LATE = re.compile(r"(?:^|[^a-z])(after|later|next|follow_?ups?|post)(?:[^a-z]|$)", re.IGNORECASE)
# An area under the ROC curve that only the label itself reaches, with this many labels of either kind.
_GIVEAWAY = 0.995
_LEAST_LABELS = 30


@dataclass(frozen=True)
class Refused:
    """A feature that is not used and why."""

    feature: str
    reason: str
    text: str


class LeakedSplit(JobError):
    """A split into train and test has the same groups on both sides: what it measures is memory.

    Args: `what` the groups are, `shared` how many of the `test` groups are in train too, and an `example`.
    """

    def __init__(self, what: str, shared: int, test: int, example: str) -> None:
        self.what, self.shared, self.test, self.example = what, shared, test, example
        super().__init__(
            f"The split leaks: {shared} of the {test} {what} in test are also in train, such as {example[:80]!r}. What "
            f"it measures is memory, not what is known about new {what}. Split by {what} and measure again."
        )


def check_split(train: Sequence[str], test: Sequence[str], what: str = "questions") -> None:
    """Refuse a split whose sides share groups. Raises: `LeakedSplit`."""
    known, asked = set(train), set(test)
    shared = sorted(known & asked)
    if shared:
        raise LeakedSplit(what, len(shared), len(asked), shared[0])


def refuse(
    columns: Mapping[str, NDArray[np.float64] | None],
    labels: NDArray[np.float64],
    *,
    known_at: Mapping[str, NDArray[np.float64]] | None = None,
    ended_at: NDArray[np.float64] | None = None,
) -> list[Refused]:
    """Which of these features may not be used.

    Args: `columns` by name, one value a trace (NaN for none; None: only the name is judged); `labels` 0 to 1, NaN where
    there is none; `known_at` and `ended_at` in seconds: when a feature became known and when its trace ended.
    """
    refused = []
    for name, values in columns.items():
        if found := _NAMED.search(name):
            refused.append(
                Refused(name, "named_outcome", f"{name!r} is not used: by its name ({found[1]}) it is the outcome.")
            )
            continue
        if found := _LATE.search(name):
            refused.append(
                Refused(name, "named_late", f"{name!r} is not used: by its name ({found[1]}) it comes after the trace.")
            )
            continue
        times = (known_at or {}).get(name)
        if times is not None and ended_at is not None and (late := int(np.sum(times > ended_at))):
            text = f"{name!r} is not used: in {late} traces it became known after the trace had ended."
            refused.append(Refused(name, "after_the_end", text))
            continue
        area = None if values is None else _area(values, labels)
        if area is not None and area >= _GIVEAWAY:
            text = f"{name!r} is not used: it tells the label nearly without error (area under the curve {area:.3f})."
            refused.append(Refused(name, "gives_away_label", text))
    return refused


def _area(values: NDArray[np.float64], labels: NDArray[np.float64]) -> float | None:
    """Area under the ROC curve of one feature, whichever way round; None with too few labels or a constant."""
    known = np.isfinite(values) & np.isfinite(labels)
    good = labels[known] >= 0.5
    positives, negatives = int(good.sum()), int((~good).sum())
    if min(positives, negatives) < _LEAST_LABELS:
        return None
    ranks = rankdata(values[known])
    area = (ranks[good].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return float(max(area, 1.0 - area))
