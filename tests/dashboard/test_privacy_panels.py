"""The Privacy and Audit tabs: forgetting by a typed confirmation, the log with its filters and its check."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loop_data import NOW
from page_driver import click, shown, store_for_pages
from publishing import publisher
from streamlit.testing.v1 import AppTest

from store import audit, learning, never_explore, redaction, retention
from store.connection import Store
from store.redaction import Rules

USER = "zelda-4711@example.org"
HOSTILE = "<img src=x> **bold** :red[x]"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        publisher(opened, tmp_path)(
            traces=[{"trace_id": "t1", "agent": "shop", "user_id": USER, "started_at": NOW, "input": "my violin"}]
        )
        yield opened


def _privacy() -> AppTest:
    def page() -> None:
        from dashboard.learn.actions import notice
        from dashboard.privacy import panel

        notice()
        panel.draw()

    app = AppTest.from_function(page, default_timeout=30)
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def _audit(**query: str) -> AppTest:
    def page() -> None:
        from dashboard.audit import panel
        from dashboard.learn.actions import notice

        notice()
        panel.draw()

    app = AppTest.from_function(page, default_timeout=30)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def _table(app: AppTest, label: str):
    return next(frame.value for frame in app.dataframe if label in frame.value.columns)


def test_a_user_is_forgotten_only_when_the_id_is_typed_again(store: Store) -> None:
    app = _privacy()
    app.text_input(key="forget_user").set_value(USER).run()
    assert "traces" in list(_table(app, "table")["table"])
    app.text_input(key="forget_typed").set_value("someone else")
    click(app, "forget_confirm")
    assert "was not typed again" in shown(app)
    app.text_input(key="forget_typed").set_value(USER)
    click(app, "forget_confirm")
    assert "nothing of them is left" in shown(app)
    assert USER not in shown(app)
    assert audit.recent(store)["action"].to_list() == ["forget user"]
    app.text_input(key="forget_user").set_value(USER).run()
    assert "holds nothing" in shown(app)


def test_the_log_is_filtered_by_the_url_and_verified(store: Store) -> None:
    assert "Nobody has done anything" in shown(_audit())
    for number in range(60):
        never_explore.add(store, "shop", "task", f"task {number}", reason=HOSTILE, by="Ada" if number else "Grace")
    app = _audit()
    assert list(_table(app, "action")["row"]) == list(range(60, 10, -1))
    app.number_input(key="audit_page").set_value(2).run()
    assert list(_table(app, "action")["row"]) == list(range(10, 0, -1))
    app = _audit(audit_who="Grace")
    assert list(_table(app, "action")["row"]) == [1]
    app = _audit(audit_q='"unit":"task 7"')
    assert list(_table(app, "action")["row"]) == [8]
    assert "No row matches" in shown(_audit(audit_subject="agent other' OR 1=1 --"))
    click(app, "audit_verify")
    assert "as they were written" in shown(app)
    store.write(lambda connection: connection.execute("UPDATE audit_log SET actor = 'Eve' WHERE sequence = 5"))
    click(app, "audit_verify")
    assert "first at row 5" in shown(app)


def test_redaction_is_tried_and_set_and_a_bad_pattern_is_refused(store: Store) -> None:
    app = _privacy()
    app.multiselect(key="redact_builtins_*").set_value(["email"])
    app.text_area(key="redact_patterns_*").set_value("ticket: TCK-[0-9]{6}")
    app.text_area(key="redact_text").set_value(f"{HOSTILE} ann@example.org TCK-123456")
    click(app, "redact_set_*")
    assert redaction.of(store, "any") == Rules(("email",), (("ticket", "TCK-[0-9]{6}"),))
    assert f"{HOSTILE} [email] [ticket]" in shown(app)
    app.text_area(key="redact_patterns_*").set_value("bad: (a")
    click(app, "redact_set_*")
    assert "cannot be used" in shown(app)
    assert redaction.of(store, "any").patterns == (("ticket", "TCK-[0-9]{6}"),)
    click(app, "redact_remove_*")
    assert not redaction.of(store, "any")


def test_retention_and_opting_out_are_set_with_what_they_would_do(store: Store) -> None:
    app = _privacy()
    app.selectbox(key="retention_what").set_value("traces")
    app.number_input(key="retention_days").set_value(30)
    click(app, "retention_set")
    assert retention.rules(store)["days"].to_list() == [30]
    app.text_input(key="learning_user").set_value(USER)
    click(app, "learning_add")
    assert "why" in shown(app)
    app.text_input(key="learning_reason").set_value("asked")
    click(app, "learning_add")
    assert learning.unwilling(store) == [USER]
    app.selectbox(key="learning_chosen").set_value(0).run()
    click(app, "learning_remove")
    assert learning.unwilling(store) == []
    assert [row["actor"] for row in audit.recent(store).to_dicts()] == ["local operator"] * 3
