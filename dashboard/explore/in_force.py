"""The policy in force of an agent: as the gateway holds it, else as it was published last."""

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from dashboard import data, runtime
from pipelines.stats.quadrature import probability_best
from pipelines.steering.propensities import greedy_arms
from store import policies
from store.connection import Store
from store.policy import Policy

__all__ = ["Beliefs", "beliefs", "policy", "problem"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Beliefs:
    """What a policy holds of one arm: posterior mean and sd, traces behind it, basis, P(best) among its arms.

    `best` and `leads` (the highest mean) are among all arms of the policy, shadows included.
    """

    mean: float
    sd: float
    n: int
    basis: str
    best: float
    leads: bool


def policy(agent: str) -> Policy | None:
    """The policy in force; None while none was published. Raises: `StoreError`."""
    current = runtime.current()
    if current.gateway is not None:
        return current.gateway.steering.policies.policy_for(agent)
    return _published(f"{current.store.path}#{id(current.store)}", data.version(), agent, current.store)


def problem(agent: str) -> str | None:
    """Why the newest policy is not the one in force; None when it is, or where there is no gateway."""
    gateway = runtime.current().gateway
    found = None if gateway is None else gateway.steering.policies.problem(agent)
    return None if found is None else found.text


def beliefs(held: Policy | None) -> dict[str, Beliefs]:
    """By arm, of the whole agent."""
    if held is None or not held.arms:
        return {}
    sds = np.maximum(held.sd, 1e-9)
    best = probability_best(held.mean, sds)
    lead = int(greedy_arms(held.mean))
    return {
        arm.name: Beliefs(
            float(held.mean[place]), float(held.sd[place]), int(held.n[place]), held.basis[place] if held.basis else "",
            float(best[place]), place == lead,
        )
        for place, arm in enumerate(held.arms)
    }  # fmt: skip


# The object itself, not a copy: it is immutable, and with many users it is large.
@st.cache_resource(max_entries=20, ttl="15m", show_spinner=False)
def _published(place: str, version: int, agent: str, _store: Store) -> Policy | None:
    found = policies.newest(_store, agent)
    return found[0] if found else None
