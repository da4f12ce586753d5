"""Keeping what hardly changes: a version of a policy writes what moved, and none is published where nothing did."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.steering.policy import Policy

__all__ = ["named_rows", "picked", "settled"]

Floats = NDArray[np.float64]
T = TypeVar("T", bound=np.floating[Any])

# A user's row is written anew when a mean moves by more than this share of its sd, or the sd by this share of itself.
_MOVED = 0.1
# The same for the agent's and the segments' numbers, which are few.
_SAME = 0.005


def settled(policy: Policy, previous: Policy) -> Policy:
    """The policy with the numbers of the previous one where they hardly differ.

    Sums over threads differ in their last digits: without this every run would publish a version that says the same.
    """
    place = {arm.name: index for index, arm in enumerate(previous.arms)}
    if not place or set(place) != {arm.name for arm in policy.arms}:
        return policy
    columns = [place[arm.name] for arm in policy.arms]
    mean, sd = _kept(policy.mean, policy.sd, (previous.mean[columns], previous.sd[columns]), _SAME)
    names = list(policy.segments)
    segments = (
        named_rows(previous.segment_mean[:, columns], previous.segments, names),
        named_rows(previous.segment_sd[:, columns], previous.segments, names),
    )
    segment_mean, segment_sd = _kept(policy.segment_mean, policy.segment_sd, segments, _SAME)
    row = _places(list(policy.users.index), previous.users.index)
    users = (picked(previous.users.mean[:, columns], row), picked(previous.users.sd[:, columns], row))
    user_mean, user_sd = _kept(policy.users.mean, policy.users.sd, users, _MOVED)
    return replace(
        policy,
        mean=mean,
        sd=sd,
        segment_mean=segment_mean,
        segment_sd=segment_sd,
        users=replace(policy.users, mean=user_mean, sd=user_sd),
    )


def named_rows(numbers: Floats, names: tuple[str, ...], wanted: list[str]) -> Floats:
    """The rows of these names, NaN where there is none."""
    place = {name: index for index, name in enumerate(names)}
    rows = np.full((len(wanted), numbers.shape[1]), np.nan)
    for row, name in enumerate(wanted):
        if name in place:
            rows[row] = numbers[place[name]]
    return rows


def picked(numbers: NDArray[np.float32], row: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows, NaN for -1."""
    return np.vstack([numbers, np.full((1, numbers.shape[1]), np.nan, dtype=np.float32)])[row]


def _kept(
    mean: NDArray[T], sd: NDArray[T], before: tuple[NDArray[T], NDArray[T]], share: float
) -> tuple[NDArray[T], NDArray[T]]:
    """Rows as they were before where no mean and no sd moved by more than `share` of the sd."""
    mean_before, sd_before = before
    with np.errstate(invalid="ignore"):
        alike = (np.abs(mean - mean_before) <= share * sd_before) & (np.abs(sd - sd_before) <= share * sd_before)
    keep = alike.all(axis=-1, keepdims=True)
    return np.where(keep, mean_before, mean), np.where(keep, sd_before, sd)


def _places(names: list[str], index: Mapping[str, int]) -> NDArray[np.int64]:
    """The position of each name, -1 for none."""
    known = pl.DataFrame(
        {"name": list(index), "row": list(index.values())}, schema={"name": pl.String, "row": pl.Int64}
    )
    wanted = pl.DataFrame({"name": names}, schema={"name": pl.String})
    found = wanted.join(known, on="name", how="left", maintain_order="left")["row"]
    return np.asarray(found.fill_null(-1).to_numpy(), dtype=np.int64)
