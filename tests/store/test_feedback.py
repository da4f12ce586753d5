"""Volunteered and solicited thumbs per agent."""

from publishing import publisher

from store import feedback
from store.connection import Store


def test_thumbs_are_counted_by_agent_and_by_how_they_came(tmp_path):
    store = Store.open(None, threads=1)
    thumb = {"kind": "thumb", "solicited": False}
    asked = {"kind": "thumb", "solicited": True, "propensity": 0.02}
    publisher(store, tmp_path)(
        traces=[{"trace_id": f"t{n}", "agent": "shop" if n < 4 else "desk"} for n in range(6)],
        signals=[
            {"signal_id": "1", "trace_id": "t0", "value": 1.0, **thumb},
            {"signal_id": "2", "trace_id": "t1", "value": 0.0, **thumb},
            {"signal_id": "3", "trace_id": "t2", "value": 1.0, **asked},
            # Said to be asked for, but not with which probability: it tells no more than a volunteered one.
            {"signal_id": "4", "trace_id": "t3", "value": 0.0, **asked, "propensity": None},
            {"signal_id": "5", "trace_id": "t3", "value": 0.0, **asked, "propensity": 0.0},
            {"signal_id": "6", "trace_id": "t3", "value": 1.0, **thumb, "annotator_kind": "llm"},
            {"signal_id": "7", "trace_id": "t3", "value": 7.0, **thumb},
            {"signal_id": "8", "trace_id": "nowhere", "value": 1.0, **thumb},
        ],
    )
    found = feedback.thumbs(store)
    assert found.rows() == [("shop", 4, 4, 1, 1, 1)]
    store.close()


def test_without_thumbs_there_is_nothing(tmp_path):
    store = Store.open(None, threads=1)
    publisher(store, tmp_path)(traces=[{"trace_id": "t", "agent": "a"}])
    assert feedback.thumbs(store).is_empty()
    store.close()
