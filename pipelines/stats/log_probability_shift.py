"""Whether the log-probabilities of a model's first tokens moved: a permutation test on their means.

Log Probability Tracking of LLM APIs (Chauvin et al., ICLR 2026, arXiv 2512.03816): one short prompt is asked for one
token with its likeliest alternatives, and the statistic is the mean over tokens of the absolute difference between the
two samples' mean log-probabilities. Servers are not deterministic, so samples are compared, not single answers. A token
that one answer does not list is at most as likely as the least likely one listed, and is given that value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.stats.permutation import assignments, permutation_test

__all__ = ["Shift", "compare"]

Array = NDArray[np.float64]
Listed = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Shift:
    """What the test said: the statistic in nats, over so many prompts and tokens.

    `likeliest_before` and `likeliest_after` are the mean log-probabilities of the token that was the likeliest before,
    averaged over prompts; `effect` is their difference with its standard error.
    """

    statistic: float
    p_value: float
    draws: int
    prompts: int
    tokens: int
    before_n: int
    after_n: int
    likeliest_before: float
    likeliest_after: float
    effect: float
    effect_sd: float


def compare(
    before: Mapping[str, Listed], after: Mapping[str, Listed], random: np.random.Generator, *, most: int = 19_999
) -> Shift | None:
    """Test whether log-probabilities by prompt moved; None where no prompt has two old and two new answers."""
    blocks: list[tuple[Array, int]] = []
    for prompt in sorted(set(before) & set(after)):
        old = [each for each in before[prompt] if each]
        new = [each for each in after[prompt] if each]
        if min(len(old), len(new)) >= 2:
            blocks.append((_table([*old, *new]), len(old)))
    if not blocks:
        return None
    tokens = sum(table.shape[1] for table, _ in blocks)

    def statistics(marks: Sequence[Array]) -> Array:
        total = np.zeros(marks[0].shape[0])
        for (table, old), new in zip(blocks, marks, strict=True):
            fresh = new @ table
            means = fresh / (table.shape[0] - old) - (table.sum(axis=0) - fresh) / old
            total += np.abs(means).sum(axis=1)
        return np.asarray(total / tokens)

    observed = float(statistics([np.repeat([0.0, 1.0], [old, len(table) - old])[None, :] for table, old in blocks])[0])
    test = permutation_test(
        observed,
        lambda count: statistics([assignments(count, len(table), len(table) - old, random) for table, old in blocks]),
        most=most,
    )
    likeliest = [table[:, int(np.argmax(table[:old].mean(axis=0)))] for table, old in blocks]
    sides = [(column[:old], column[old:]) for column, (_, old) in zip(likeliest, blocks, strict=True)]
    variance = sum(float(old.var(ddof=1) / old.size + new.var(ddof=1) / new.size) for old, new in sides)
    earlier = float(np.mean([old.mean() for old, _ in sides]))
    later = float(np.mean([new.mean() for _, new in sides]))
    return Shift(
        statistic=observed, p_value=test.p_value, draws=test.draws, prompts=len(blocks), tokens=tokens,
        before_n=sum(old for _, old in blocks), after_n=sum(len(table) - old for table, old in blocks),
        likeliest_before=earlier, likeliest_after=later, effect=later - earlier,
        effect_sd=float(np.sqrt(variance)) / len(blocks),
    )  # fmt: skip


def _table(listed: Listed) -> Array:
    """Log-probabilities of every token that any answer lists, shape (answers, tokens)."""
    names = sorted({token for each in listed for token in each})
    return np.array([[each.get(name, min(each.values())) for name in names] for each in listed])
