"""The order test says so when history matters, and says no when it does not."""

import numpy as np
import pytest

from pipelines.transitions.history import order_test


def _transitions(random, traces, following):
    """Traces among three states that end with probability .1 at every step, in one of three ways.

    `following[before, now]` is the distribution of the next state where the trace goes on; 0 is START.
    """
    source, target, trace = [], [], []
    before, now = np.zeros(traces, dtype=int), np.zeros(traces, dtype=int)
    running = np.arange(traces)
    while running.size:
        cumulative = np.cumsum(following[before[running], now[running]], axis=1)
        chosen = np.minimum((random.random(running.size)[:, None] > cumulative).sum(axis=1), 2)
        over = random.random(running.size) < 0.1
        chosen = np.where(over, 3 + random.integers(0, 3, running.size), chosen)
        source.append(now[running].copy())
        target.append(chosen)
        trace.append(running)
        before[running], now[running] = now[running], chosen + 1
        running = running[~over]
    order = np.argsort(np.concatenate(trace), kind="stable")
    return (np.concatenate(part)[order] for part in (source, target, trace))


def _held(trace, random):
    return (random.random(int(trace.max()) + 1) < 0.2)[trace]


def test_a_first_order_chain_needs_no_history():
    random = np.random.default_rng(1)
    rows = random.dirichlet(np.ones(3), 4)
    following = np.broadcast_to(rows, (4, 4, 3))
    source, target, trace = _transitions(random, 2_000, following)
    found = order_test(source, target, trace, _held(trace, random), (4, 6))
    assert found.verdict == "no history needed"
    assert found.gain == pytest.approx(0.0, abs=0.005)
    assert found.lower < 0.005


def test_a_second_order_chain_does():
    random = np.random.default_rng(2)
    following = random.dirichlet(np.full(3, 0.4), (4, 4))
    source, target, trace = _transitions(random, 2_000, following)
    found = order_test(source, target, trace, _held(trace, random), (4, 6))
    assert found.verdict == "history matters here"
    assert found.gain > 0.1
    assert 0.02 < found.lower < found.gain < found.upper


def test_few_traces_cannot_tell():
    random = np.random.default_rng(3)
    source, target, trace = _transitions(random, 40, random.dirichlet(np.ones(3), (4, 4)))
    found = order_test(source, target, trace, trace < 8, (4, 6))
    assert (found.verdict, found.gain, found.traces) == ("can't tell yet", None, 8)
