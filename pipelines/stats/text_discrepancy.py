"""Whether two sets of answers to the same prompts come from one distribution: MMD with the Hamming kernel.

Model Equality Testing (Gao, Liang & Guestrin, ICLR 2025, arXiv 2410.20247, section 3): answers are cut or padded to
L characters, the kernel of (prompt x, answer y) and (x', y') is

    k = 1[x = x'] (1/L) sum_i 1[y_i = y'_i]

and the statistic the unbiased estimate of the squared maximum mean discrepancy over pairs of answers to one prompt,

    MMD^2 = mean k(old, old') - 2 mean k(old, new) + mean k(new, new'),

without pairs of an answer with itself. The p-value permutes old and new within each prompt (`permutation`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.stats.permutation import assignments, permutation_test

__all__ = ["CHARACTERS", "TextComparison", "compare", "hamming_kernel"]

CHARACTERS: Final = 1_000  # L of the paper
_PADDING: Final = -1

Array = NDArray[np.float64]
Answers = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class TextComparison:
    """What the test said: `n` old and new answers and prompts; how alike answers to one prompt are, 0 to 1.

    `alike_before` is the mean kernel of two old answers, `alike_after` of an old and a new one; `effect` their
    difference with a jackknife standard error.
    """

    mmd: float
    p_value: float
    draws: int
    prompts: int
    before_n: int
    after_n: int
    alike_before: float
    alike_after: float
    effect: float
    effect_sd: float


@dataclass(frozen=True)
class _Block:
    """The kernel between all answers to one prompt, old ones first, its diagonal 0; shape (old + new, old + new)."""

    kernel: Array
    old: int
    new: int


def hamming_kernel(texts: Sequence[str], characters: int = CHARACTERS) -> Array:
    """The share of equal characters of every two texts, shape (texts, texts); places after a text's end are equal.

    L is the longest text's length, at most `characters`; texts without any character are alike in everything.
    """
    length = max(1, min(characters, max((len(text) for text in texts), default=1)))
    codes = np.full((len(texts), length), _PADDING, dtype=np.int32)
    for row, text in enumerate(texts):
        # Half a surrogate pair is a character like any other here.
        code = np.frombuffer(text[:length].encode("utf-32-le", "surrogatepass"), dtype=np.int32)
        codes[row, : code.size] = code
    kernel = np.empty((len(texts), len(texts)))
    for row in range(len(texts)):
        kernel[row] = np.count_nonzero(codes == codes[row], axis=1)
    return kernel / length


def compare(
    before: Answers, after: Answers, random: np.random.Generator, *, characters: int = CHARACTERS, most: int = 19_999
) -> TextComparison | None:
    """Test whether answers by prompt changed; None where no prompt has two old and two new answers.

    Prompts with fewer than two answers on either side are left out.
    """
    blocks = []
    for prompt in sorted(set(before) & set(after)):
        old, new = len(before[prompt]), len(after[prompt])
        if min(old, new) >= 2:
            kernel = hamming_kernel([*before[prompt], *after[prompt]], characters)
            np.fill_diagonal(kernel, 0.0)
            blocks.append(_Block(kernel, old, new))
    if not blocks:
        return None
    stated = [np.repeat([0.0, 1.0], [block.old, block.new])[None, :] for block in blocks]
    observed = float(_statistics(blocks, stated)[0])

    def draw(count: int) -> Array:
        marks = [assignments(count, block.old + block.new, block.new, random) for block in blocks]
        return _statistics(blocks, marks)

    test = permutation_test(observed, draw, most=most)
    alike_before, alike_after, deviation = _alike(blocks)
    return TextComparison(
        mmd=observed, p_value=test.p_value, draws=test.draws, prompts=len(blocks),
        before_n=sum(block.old for block in blocks), after_n=sum(block.new for block in blocks),
        alike_before=alike_before, alike_after=alike_after, effect=alike_after - alike_before, effect_sd=deviation,
    )  # fmt: skip


def _statistics(blocks: Sequence[_Block], marks: Sequence[Array]) -> Array:
    """MMD^2 of each assignment, shape (assignments,); `marks` of a block, (assignments, answers), are 1 for new."""
    both_old = both_new = mixed = np.zeros(marks[0].shape[0])
    for block, new in zip(blocks, marks, strict=True):
        inside = np.einsum("ij,ij->i", new @ block.kernel, new)
        across = new @ block.kernel.sum(axis=1) - inside
        both_new = both_new + inside
        mixed = mixed + across
        both_old = both_old + block.kernel.sum() - 2.0 * across - inside
    pairs_old = sum(block.old * (block.old - 1) for block in blocks)
    pairs_new = sum(block.new * (block.new - 1) for block in blocks)
    pairs_mixed = sum(block.old * block.new for block in blocks)
    return np.asarray(both_old / pairs_old - 2.0 * mixed / pairs_mixed + both_new / pairs_new)


def _alike(blocks: Sequence[_Block]) -> tuple[float, float, float]:
    """Mean kernels of old with old and old with new answers; the jackknife deviation of the second minus the first."""
    old_sum = sum(float(block.kernel[: block.old, : block.old].sum()) for block in blocks)
    mixed_sum = sum(float(block.kernel[: block.old, block.old :].sum()) for block in blocks)
    old_pairs = sum(block.old * (block.old - 1) for block in blocks)
    mixed_pairs = sum(block.old * block.new for block in blocks)
    variance = 0.0
    for block in blocks:
        inside = block.kernel[: block.old, : block.old].sum(axis=1)
        across = block.kernel[: block.old, block.old :]
        # What remains without one old answer, or without one new one.
        without_old = (mixed_sum - across.sum(axis=1)) / max(mixed_pairs - block.new, 1) - (
            old_sum - 2.0 * inside
        ) / max(old_pairs - 2 * (block.old - 1), 1)
        without_new = (mixed_sum - across.sum(axis=0)) / max(mixed_pairs - block.old, 1) - old_sum / old_pairs
        for left_out in (without_old, without_new):
            variance += (left_out.size - 1) / left_out.size * float(((left_out - left_out.mean()) ** 2).sum())
    return old_sum / old_pairs, mixed_sum / mixed_pairs, float(np.sqrt(variance))
