"""Redaction: what is taken out and what stays, JSON stays JSON, and no way into the store goes round it."""

import json
import re
import string
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loading import loaded, table

from pipelines.live.prepare import prepare
from pipelines.privacy.redaction import BUILTINS, Redactor, checked
from store import audit, live, redaction
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.redaction import Rules

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ALL = Rules(tuple(BUILTINS), (("ticket", r"\bTCK-\d{6}\b"),))
CARD, IBAN = "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("write to ann.b+x@mail.example.org now", "write to [email] now"),
        ("call +49 30 901820, please", "call [phone], please"),
        (f"pay {IBAN} TODAY", "pay [iban] TODAY"),
        (f"card {CARD}.", "card [card]."),
        ("from 192.168.7.12 and 2001:db8::8a2e:370:7334", "from [ip] and [ip]"),
        ("key sk-proj-abcdefghijklmnopqrstuv!", "key [secret]!"),
        ("Authorization: Bearer abcdefghijklmnop.qrst", "Authorization: [secret]"),
        ("see TCK-123456", "see [ticket]"),
        ("order 4111 1111 1111 1112, 12:30:05, v1.2, 3::4, std::vector", None),
        ("a@b, 1+1=2, GB00 nothing", None),
    ],
)
def test_what_is_taken_out_and_what_stays(text, after):
    assert Redactor(ALL).text(text) == (text if after is None else after)


def test_national_numbers_need_their_region():
    assert Redactor(Rules(("phone",))).text("ring 030 901820") == "ring 030 901820"
    assert Redactor(checked(["phone:DE"], [])).text("ring 030 901820") == "ring [phone]"


@given(st.recursive(st.text(string.printable, max_size=30) | st.integers() | st.booleans() | st.none()
                    | st.sampled_from([CARD, "a@example.org", 4111111111111111, "\u0000x", "é@ü.de"]),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
                    max_leaves=8).filter(lambda value: isinstance(value, (list, dict))), st.booleans())  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_json_stays_json_and_keeps_its_shape(value, ascii):
    text = json.dumps(value, ensure_ascii=ascii)
    done = json.loads(Redactor(ALL).text(text))
    assert type(done) is type(value)
    assert "4111111111111111" not in json.dumps(done)
    assert "a@example.org" not in json.dumps(done)


def test_an_escaped_address_is_found():
    assert json.loads(Redactor(ALL).text('{"mail": "ann\\u0040example.org", "n": 4111111111111111}')) == {
        "mail": "[email]", "n": "[card]"}  # fmt: skip


@given(st.text(alphabet=string.ascii_letters + string.digits + " @.-+:/=[]{}\"'", max_size=80))
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_redacting_again_changes_nothing(text):
    redactor = Redactor(Rules(("email", "ip", "card", "secret")))
    once = redactor.text(text)
    assert redactor.text(once) == once


@pytest.mark.parametrize(
    ("pattern", "why"),
    [(r"(a", "cannot be used"), (r"(?=a)b", "cannot be used"), (r"(a)\1", "cannot be used"), ("x*", "empty text"),
     (r"\[", "own placeholder"), ("a" * 501, "too long"), ("", "empty")],
)  # fmt: skip
def test_patterns_that_cannot_be_used_are_refused_in_words(pattern, why):
    with pytest.raises(ActionRefused, match=why):
        checked([], [("mine", pattern)])
    with pytest.raises(ActionRefused):
        checked(["nonsense"], [])
    with pytest.raises(ActionRefused):
        checked([], [("mine]", "a")])


def test_a_pattern_that_would_backtrack_for_ever_is_done_at_once():
    pattern = r"(a+)+$"
    # Python's own engine would take about 2^28 steps for this text.
    assert re.compile(pattern)
    rules = checked([], [("mine", r"(?:a+)+b")])
    text = "a" * 50_000 + "!"
    assert Redactor(rules).text(text) == text


def test_nothing_is_set_at_first_and_settings_are_audited(store):
    assert not redaction.of(store, "any")
    redaction.put(store, "*", ALL, by="Ada")
    redaction.put(store, "otel", Rules(), by="Ada")
    assert redaction.of(store, "any") == ALL
    assert not redaction.of(store, "otel")
    redaction.remove(store, "otel", by="Ada")
    assert redaction.of(store, "otel") == ALL
    with pytest.raises(NotFound):
        redaction.remove(store, "otel", by="Ada")
    with pytest.raises(ActionRefused):
        redaction.put(store, "*", ALL, by=audit.SYSTEM)
    told = [json.loads(row) for row in audit.recent(store)["detail"]]
    assert told[-1]["before"] is None
    assert told[-1]["after"]["builtins"] == list(BUILTINS)


SECRETS = ("ann@example.org", "TCK-123456", "192.168.7.12")


def _everything(store):
    parts = []
    for name in ("trace_records", "traces", "spans", "signals", "ingest_rejects", "ingest_batches"):
        parts.append(table(store, f"FROM {name}").write_json())
    return "".join(parts)


def test_files_and_their_rejects_hold_nothing_that_is_redacted(store, tmp_path):
    redaction.put(store, "*", ALL, by="Ada")
    said = f"I am {SECRETS[0]}, {SECRETS[1]} from {SECRETS[2]}"
    path = tmp_path / "traces.csv"
    path.write_text(
        "trace_id,agent,started_at,input,output,extra\n"
        f'1,shop,2026-11-01T00:00:00Z,"{said}","{said}","{said}"\n'
        f'2,shop,never,"{said}",x,y\n'
    )
    report = loaded(store, path)
    assert (report.accepted, report.rejected) == (1, 1)
    nested = tmp_path / "signals.jsonl"
    nested.write_text(json.dumps({"signal_id": "g", "kind": "comment", "trace_id": "1", "text": said}) + "\n")
    loaded(store, nested)
    held = _everything(store)
    assert [secret for secret in SECRETS if secret in held] == []
    assert "[email]" in held
    assert "[ticket]" in held
    again = loaded(store, path)
    assert (again.accepted, again.duplicate) == (0, 1)


def test_live_data_and_its_refusals_hold_nothing_that_is_redacted(store):
    body = json.dumps(
        [{"kind": "comment", "trace_id": "1", "text": SECRETS[0], "metadata": {"a": SECRETS[2]}},
         {"kind": SECRETS[0], "trace_id": "1"}]
    ).encode()  # fmt: skip
    prepared = prepare(body, "signals", "identity", "otel", ALL)
    shown = "".join(pl.DataFrame(pl.from_arrow(each)).write_json() for each in prepared.tables.values())
    refused = " ".join(each.reason for each in prepared.refused)
    assert [secret for secret in SECRETS if secret in shown + refused] == []
    assert len(prepared.refused) == 1
    assert SECRETS[0] in "".join(
        pl.DataFrame(pl.from_arrow(each)).write_json()
        for each in prepare(body, "signals", "identity", "x").tables.values()
    )
    assert live.last_seen(store).is_empty()
