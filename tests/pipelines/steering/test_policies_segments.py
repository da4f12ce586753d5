"""A user's segment by rule is the same in the list of users, in the policy, and in what `/v1/steer` decides by."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from loop_data import NOW
from publishing import publisher

from pipelines import segments_job
from pipelines.jobs import REGISTRY, JobContext
from pipelines.steering import job
from pipelines.steering.compiled import Compiled
from store import policies, segment_members, segments, users
from store.clock import FixedClock
from store.connection import Store
from store.segment_conditions import Condition
from store.segments import Rule
from store.settings import Settings


@pytest.fixture
def context(tmp_path: Path) -> Iterator[JobContext]:
    """What a job works with, on a store in which the user u7 has eight traces, u6 seven and so on."""
    store = Store.open(None, clock=FixedClock(NOW), threads=1)
    publisher(store, tmp_path)(
        traces=[
            {
                "trace_id": f"t{user}{number}", "agent": "shop", "user_id": f"u{user}", "arm": "ab"[number % 2],
                "started_at": NOW - timedelta(hours=number), "metadata": '{"segment": "north"}',
            }
            for user in range(8)
            for number in range(user + 1)
        ]
    )  # fmt: skip
    users.count(store)
    yield JobContext(
        store=store, clock=store.clock, settings=Settings(), random=np.random.default_rng(1),
        progress=lambda *_: None, loads=None,
    )  # fmt: skip
    store.close()


def test_steering_and_lists_agree_after_a_rule_is_added(context: JobContext) -> None:
    store = context.store
    rule = Rule("regulars", 1, (Condition("traces", "at least", ("2",)),))
    told = segment_members.preview(store, rule)
    segments.put(store, rule, reason="a test", operator="ada")
    moved = segments_job.run(context)
    assert moved.rows == told.taken >= job.LEAST_PEOPLE
    job.run(context)
    listed = users.page(store, limit=1000).rows
    regulars = set(listed.filter(segment="regulars")["user_id"])
    assert regulars == {f"u{user}" for user in range(1, 8)}
    (policy,) = policies.newest(store, "shop")
    known = Compiled(policy)
    assert {user for user in policy.users.index if known.standing(user, None).segment == "regulars"} == regulars
    # Without the rule everybody is where their metadata put them.
    segments.remove(store, "regulars", reason="the test is over", operator="ada")
    assert segments_job.run(context).rows == len(regulars)
    job.run(context)
    (policy,) = policies.newest(store, "shop")
    assert {Compiled(policy).standing(user, None).segment for user in policy.users.index} == {"north"}


def test_jobs_that_read_segments_go_after_the_job() -> None:
    names = list(REGISTRY)
    for name in ("preferences", "drift", "policies"):
        assert "segments" in REGISTRY[name].after
        assert names.index("segments") < names.index(name)
