"""Opting out of learning: what the fits read is what they would read without the person's traces."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from publishing import publisher

from store import audit, contrasts, graduation, learning, preferences, reward_features, rewards
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, NotFound

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
READINGS = {
    "evidence": lambda store: [rewards.evidence(store, ["thumb"]).traces, rewards.evidence(store, ["thumb"]).signals],
    "measured": lambda store: [rewards.measured(store).traces, rewards.measured(store).signals],
    "features": lambda store: [reward_features.gather(store).facts],
    "features since": lambda store: [
        reward_features.gather(store, selection=reward_features.Selection((), (), ()), since=0).facts
    ],
    "rollouts": lambda store: [contrasts.rollouts(store).drop("seen_at")],
    "shown": lambda store: [preferences.shown_sets(store, ())],
    "statements": lambda store: [preferences.statements(store)],
    "opinions": lambda store: [preferences.opinions(store)],
    "comparisons": lambda store: [preferences.comparisons(store)],
    "rewarded": lambda store: [preferences.rewarded(store)],
}


def _filled(path, people, *, stated=()):
    store = Store.open(path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    traces, signals = [], []
    for person in people:
        for number in range(4):
            name = f"{person}-{number}"
            metadata = {"learning_opt_out": True} if person in stated and number == 3 else {"segment": "s"}
            traces.append(
                {"trace_id": name, "agent": "shop", "user_id": person, "task": "t", "arm": "ab"[number % 2],
                 "started_at": NOW - timedelta(hours=9 - number), "input": "x", "metadata": json.dumps(metadata)}
            )  # fmt: skip
            for kind, more in (
                ("thumb", {"value": 1.0}), ("impression", {"item": "a", "position": 1}),
                ("preference", {"name": "stated_goal", "item": "price", "value": 1.0, "user_id": person}),
                ("preference", {"metadata": json.dumps({"winner": "a", "loser": "b"})}),
            ):  # fmt: skip
                signals.append(
                    {"signal_id": f"{name}-{len(signals)}", "trace_id": name, "kind": kind, "user_id": person,
                     "occurred_at": NOW, **more}
                )  # fmt: skip
    signals = [{**row, "signal_id": f"g{row['trace_id']}{row['kind']}{row.get('name', '')}"} for row in signals]
    publisher(store, path)(traces=traces, signals=signals)

    def reward(connection):
        connection.execute("INSERT INTO reward_models VALUES (1, 'm', $now, 1, 1, 1, '{}', 'v', true)", {"now": NOW})
        connection.execute(
            """INSERT INTO rewards (trace_id, reward_model_id, mean, sd, signals)
            SELECT trace_id, 1, .5, .1, 1 FROM traces"""
        )

    store.write(reward)
    return store


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    store = _filled(tmp_path_factory.mktemp("without"), ["ann", "bob"])
    answers = {name: read(store) for name, read in READINGS.items()}
    store.close()
    return answers


@pytest.mark.parametrize("how", ["listed", "stated"])
def test_every_fit_reads_what_it_would_read_without_them(tmp_path, without, how):
    store = _filled(tmp_path, ["ann", "bob", "zoe"], stated=["zoe"] if how == "stated" else [])
    if how == "listed":
        before = {name: read(store) for name, read in READINGS.items()}
        # The comparison could fail: each reading told of them.
        assert [name for name in READINGS if all(map(_same, before[name], without[name]))] == []
        learning.add(store, "zoe", reason="asked", by="Ada")
    assert learning.unwilling(store) == ["zoe"]
    assert "zoe" in graduation.unwilling(store, "shop")
    for name, read in READINGS.items():
        assert all(map(_same, read(store), without[name])), name
    store.close()


def _same(left, right):
    return sorted(map(repr, left.rows())) == sorted(map(repr, right.rows()))


def test_what_was_worked_out_of_them_goes_and_they_can_come_back(tmp_path):
    store = _filled(tmp_path, ["ann", "zoe"])
    learning.add(store, "zoe", reason="asked", by="Ada")
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM rewards WHERE starts_with(trace_id, 'zoe')") == 0
        assert reader.value("SELECT count(*) FROM rewards") == 4
        assert reader.value("SELECT count(*) FROM traces WHERE user_id = 'zoe'") == 4
    with pytest.raises(ActionRefused):
        learning.add(store, "zoe", reason="again", by="Ada")
    with pytest.raises(ActionRefused):
        learning.add(store, "ann", reason=" ", by="Ada")
    with pytest.raises(ActionRefused):
        learning.add(store, "ann", reason="x", by=audit.SYSTEM)
    learning.remove(store, "zoe", by="Ada")
    assert learning.unwilling(store) == []
    with pytest.raises(NotFound):
        learning.remove(store, "zoe", by="Ada")
    told = [json.loads(detail) for detail in audit.recent(store)["detail"]]
    assert [(row["before"], row["after"]) for row in told] == [("asked", None), (None, "asked")]
    assert told[1]["rows"]["rewards"] == 4
    store.close()
