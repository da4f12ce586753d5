"""What traces did against guardrails, from frames; delays and rates against a count by hand."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.guardrails.addresses import sites
from pipelines.guardrails.audit import audit
from pipelines.stats.contract import ContractError
from store.guardrail_evidence import ACTIONS, COSTS, STARTS, TRACES
from store.guardrail_subjects import site
from store.guardrails import GUARDRAILS

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def rule(kind: str, subject: str | None = None, threshold: float | None = None, **stated: Any) -> dict[str, Any]:
    return {
        "agent": "shop", "guardrail_id": kind, "arm": None, "kind": kind, "subject": subject, "threshold": threshold,
        "on_violation": "alert", "state": "on", "created_by": "ann", "created_at": START, "updated_at": START,
    } | stated  # fmt: skip


def trace(trace_id: str = "t1", **stated: Any) -> dict[str, Any]:
    return {
        "trace_id": trace_id, "agent": "shop", "arm": "b", "decision_id": "d1", "session_id": None, "seen_at": START,
        "cost_usd": None, "fresh": True,
    } | stated  # fmt: skip


def call(span_id: str, name: str | None = "fetch", arguments: Any = None, **stated: Any) -> dict[str, Any]:
    text = arguments if arguments is None or isinstance(arguments, str) else json.dumps(arguments)
    return {
        "trace_id": "t1", "span_id": span_id, "kind": "tool", "name": name, "started_at": START, "input": text,
        "attributes": None,
    } | stated  # fmt: skip


def start(seconds: float, span_id: str, trace_id: str = "t1", unit: str = "trace:t1", **stated: Any) -> dict[str, Any]:
    moment = START + timedelta(microseconds=round(seconds * 1e6))
    return {
        "agent": "shop", "unit": unit, "trace_id": trace_id, "span_id": span_id, "name": f"tool {span_id}",
        "started_at": moment,
    } | stated  # fmt: skip


def audited(
    rules: list[dict[str, Any]],
    traces: list[dict[str, Any]] | None = None,
    calls: list[dict[str, Any]] | None = None,
    starts: list[dict[str, Any]] | None = None,
    costs: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    return audit(
        pl.DataFrame(rules, schema=GUARDRAILS),
        pl.DataFrame([trace()] if traces is None else traces, schema=TRACES),
        pl.DataFrame(calls or [], schema=ACTIONS),
        pl.DataFrame(starts or [], schema=STARTS),
        pl.DataFrame(costs or [], schema=COSTS),
    ).to_dicts()


def spans(found: list[dict[str, Any]]) -> list[str | None]:
    return [row["span_id"] for row in found]


def test_a_tool_is_off_limits_however_its_name_is_composed():
    for written in ("café", "cafe\u0301", "  cafe\u0301 "):
        assert audited([rule("off_limits_tool", "café")], calls=[call("s1", written)]), ascii(written)
    assert not audited([rule("off_limits_tool", "café")], calls=[call("s1", "cafe")])


def test_a_forbidden_tool_is_found_by_name_whoever_wrote_it_and_with_what_case() -> None:
    calls = [
        call("s1", "delete_account"), call("s2", "Delete_Account"), call("s3", "delete"), call("s4", None),
        call("s5", "undelete_account"), call("s6", "delete_order"), call("s7", "delete_x", kind="retriever"),
    ]  # fmt: skip
    found = audited([rule("off_limits_tool", "delete_*")], calls=calls)
    assert spans(found) == ["s1", "s2", "s6"]
    assert found[0] == {
        "agent": "shop", "guardrail_id": "off_limits_tool", "trace_id": "t1", "span_id": "s1", "decision_id": "d1",
        "arm": "b", "occurred_at": START, "observed": None, "action": "alert",
        "detail": "expected no call of the tool delete_*; delete_account was called",
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "https://evil.com/path"},
        {"url": "HTTP://EVIL.COM."},
        {"url": "https://a.b.evil.com:8443/?q=1"},
        {"url": "https://user:pass@evil.com"},
        {"url": "https://good.com@evil.com/"},
        {"url": "https://evil.com\\@good.com/"},
        {"url": "https:\\\\evil.com\\x"},
        {"url": "https:evil.com"},
        {"url": "//evil.com/x"},
        {"url": "evil.com/x"},
        {"url": "https://ev\til.com/"},
        {"url": "https://e%76il.com/"},
        {"url": "https://ｅｖｉｌ.com/"},
        {"host": "Evil.com", "path": "/x"},
        {"target_url": "evil.com"},
        {"request": {"headers": [{"x": 1}], "body": "see (https://evil.com), please"}},
        {"arguments": '{"url": "https:\\/\\/evil.com\\/"}'},
        {"https://evil.com/": 1},
        "GET https://evil.com/ HTTP/1.1",
        "'https://evil.com'",
        '{"url": "https://evil.com" broken',
        ["wss://evil.com/socket"],
    ],
)
def test_a_forbidden_site_is_found_however_it_is_written(arguments: Any) -> None:
    found = audited([rule("off_limits_site", "evil.com")], calls=[call("s1", arguments=arguments)])
    assert spans(found) == ["s1"]
    assert "evil.com" in found[0]["detail"]


@pytest.mark.parametrize(
    "arguments",
    [
        None,
        {"url": "https://notevil.com/evil.com"},
        {"url": "https://evil.com@good.com/"},
        {"url": "https://good.com/?next=evil.com"},
        {"url": "https://evil.com.good.com"},
        {"query": "what is evil.com about"},
        {"note": "evil.com"},
        {"url": ""},
        "no url: at all",
    ],
)
def test_what_only_looks_like_a_forbidden_site_is_not_one(arguments: Any) -> None:
    assert audited([rule("off_limits_site", "evil.com")], calls=[call("s1", arguments=arguments)]) == []


def test_sites_by_idn_port_address_and_in_the_attributes_that_name_the_target() -> None:
    def hit(subject: str, arguments: Any, attributes: dict[str, Any] | None = None) -> bool:
        one = call("s1", arguments=arguments, attributes=None if attributes is None else json.dumps(attributes))
        return bool(audited([rule("off_limits_site", str(site(subject)))], calls=[one]))

    assert hit("bücher.de", {"url": "https://xn--bcher-kva.de/"})
    assert hit("xn--bcher-kva.de", {"url": "https://BÜCHER.de/"})
    assert hit("evil.com:8443", {"url": "https://evil.com:8443"})
    assert not hit("evil.com:8443", {"url": "https://evil.com/"})
    assert hit("evil.com:443", {"url": "https://evil.com/"})
    assert hit("evil.com:80", {"url": "http://evil.com/"})
    assert hit("127.0.0.1", {"url": "http://2130706433/admin"})
    assert hit("127.0.0.1", {"url": "http://[::ffff:7f00:1]/"})
    assert hit("::1", {"url": "http://[0:0::1]:8080/"})
    assert hit("evil.com", None, {"url.full": "https://evil.com/"})
    assert hit("evil.com", None, {"server.address": "api.evil.com"})
    assert not hit("evil.com", None, {"documentation": "https://evil.com/"})
    assert hit("evil.com", {"url": "https://evil.com:99999/"})  # no port, the host all the same


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    sites(text, text)
    sites(json.dumps({"url": text}), json.dumps({"url.full": text}))


@pytest.mark.parametrize(
    "deep", ["[" * 5_000, "[" * 5_000 + "]" * 5_000, '{"a":' * 300 + '"https://evil.com"' + "}" * 300]
)
def test_deep_nesting_is_no_way_around(deep: str) -> None:
    found = sites(deep, None)
    assert "evil.com" not in deep or {str(each) for each in found} == {"evil.com:443"}


def test_an_action_is_a_name_and_conditions_on_its_arguments() -> None:
    def hits(subject: str, *calls: dict[str, Any]) -> list[str | None]:
        return spans(audited([rule("off_limits_action", subject)], calls=list(calls)))

    mails = [
        call("s1", "send_email", {"to": "Bob@Rival.com", "cc": None}),
        call("s2", "send_email", {"to": ["a@own.com", "eve@rival.com"]}),
        call("s3", "send_email", {"to": "bob@own.com"}),
        call("s4", "send_email", "to=bob@rival.com"),
        call("s5", "read_email", {"to": "bob@rival.com"}),
        call("s6", "tool", {"arguments": {"to": "x@rival.com"}}, attributes='{"action": "send_email"}'),
        call("s7", "send_email", {"input": '{"to": "y@rival.com"}'}),
    ]
    assert hits("send_email(to=*@rival.com)", *mails) == ["s1", "s2", "s6", "s7"]
    assert hits("send_email", *mails) == ["s1", "s2", "s3", "s4", "s6", "s7"]
    orders = [
        call("s1", "pay", {"amount": 100, "to": {"country": "XX"}}),
        call("s2", "pay", {"amount": 100, "to": {"country": "DE"}}),
        call("s3", "pay", {"amount": 10, "to": [{"country": "DE"}, {"country": "XX"}]}),
    ]
    assert hits("pay(to.country=XX)", *orders) == ["s1", "s3"]
    assert hits("pay(to.country=XX, amount=100)", *orders) == ["s1"]
    assert hits("pay(iban=*)", *orders) == []


@given(
    starts=st.lists(st.tuples(st.integers(0, 200_000), st.sampled_from("ab")), max_size=40),
    seconds=st.sampled_from([0.001, 1.5, 60.0]),
    most=st.integers(1, 5),
)
def test_delays_and_rates_are_those_counted_by_hand(starts: list[tuple[int, str]], seconds: float, most: int) -> None:
    """Milliseconds after the start, in two sessions of four traces."""
    rows = [
        start(at / 1000, f"s{place:02}", f"{unit}{place % 2}", f"session:{unit}")
        for place, (at, unit) in enumerate(starts)
    ]
    traces = [trace(name) for name in ("a0", "a1", "b0", "b1")]
    found = audited(
        [rule("min_delay_seconds", None, seconds), rule("max_actions_per_minute", None, most)], traces, starts=rows
    )
    gaps: dict[str, float] = {}
    peaks: dict[str, int] = {}
    for unit in ("session:a", "session:b"):
        own = sorted((row for row in rows if row["unit"] == unit), key=lambda row: row["started_at"])
        for place, row in enumerate(own):
            inside = sum(
                other["started_at"] <= row["started_at"]
                and row["started_at"] - other["started_at"] < timedelta(seconds=60)
                for other in own
            )
            if inside > most:
                peaks[row["trace_id"]] = max(peaks.get(row["trace_id"], 0), inside)
            gap = (row["started_at"] - own[place - 1]["started_at"]).total_seconds() if place else None
            if gap is not None and gap < seconds:
                gaps[row["trace_id"]] = min(gaps.get(row["trace_id"], 1e9), gap)
    assert {row["trace_id"]: row["observed"] for row in found if row["guardrail_id"].startswith("max")} == peaks
    assert {
        row["trace_id"]: row["observed"] for row in found if row["guardrail_id"].startswith("min")
    } == pytest.approx(gaps)


def test_the_evidence_of_a_delay_and_of_a_rate() -> None:
    starts = [start(at, f"s{place}") for place, at in enumerate([0.0, 10.0, 11.0, 11.4, 80.0])]
    late, many = audited(
        [rule("min_delay_seconds", None, 2.0), rule("max_actions_per_minute", None, 3.0)], starts=starts
    )[::-1]
    assert (late["span_id"], late["observed"]) == ("s3", pytest.approx(0.4))
    assert late["detail"] == (
        "expected at least 2 s between actions; tool s3 began 0.4 s after tool s2; actions that came too soon: 2"
    )
    assert (many["span_id"], many["observed"]) == ("s3", 4.0)
    assert many["detail"] == "expected at most 3 actions in any minute; there were 4, the first too many was tool s3"


def test_exactly_the_limit_is_kept() -> None:
    starts = [start(at, f"s{at}") for at in (0.0, 60.0, 120.0)]
    assert audited([rule("min_delay_seconds", None, 60.0)], starts=starts) == []
    assert audited([rule("max_actions_per_minute", None, 1.0)], starts=starts) == []
    assert spans(audited([rule("max_actions_per_minute", None, 1.0)], starts=[*starts, start(119.999999, "x")])) == [
        "x"
    ]
    assert audited([rule("max_spend_usd", None, 0.3)], [trace(cost_usd=0.1 + 0.2)]) == []


def test_spending_is_that_of_the_trace_and_the_evidence_the_span_that_passed_the_cap() -> None:
    costs = [
        {"trace_id": "t1", "span_id": name, "spent_at": START + timedelta(seconds=place), "cost_usd": 0.4}
        for place, name in enumerate("abc")
    ]
    rows = audited([rule("max_spend_usd", None, 0.5)], [trace(cost_usd=1.2), trace("t2", cost_usd=0.6)], costs=costs)
    assert [(row["trace_id"], row["span_id"], row["observed"]) for row in rows] == [("t1", "b", 1.2), ("t2", None, 0.6)]
    assert rows[0]["detail"] == "expected at most 0.5 USD a trace; 1.2 USD were spent"
    assert (rows[0]["occurred_at"], rows[1]["occurred_at"]) == (START + timedelta(seconds=1), START)


def test_only_what_a_guardrail_covers_is_held_against_it() -> None:
    calls = [call("s1", "x", trace_id=name) for name in ("old", "new", "other-arm", "no-arm", "other-agent")]
    traces = [
        trace("old", seen_at=START - timedelta(microseconds=1)), trace("new"), trace("other-arm", arm="a"),
        trace("no-arm", arm=None), trace("other-agent", agent="travel"),
    ]  # fmt: skip

    def hit(**stated: Any) -> list[str]:
        return [row["trace_id"] for row in audited([rule("off_limits_tool", "x", **stated)], traces, calls)]

    assert hit() == ["new", "no-arm", "other-arm"]
    assert hit(arm="b") == ["new"]
    assert hit(state="off") == []
    assert hit(updated_at=START + timedelta(seconds=1)) == []


def test_nothing_comes_of_nothing_and_of_other_columns() -> None:
    rules = [rule("min_delay_seconds", None, 1.0), rule("max_spend_usd", None, 1.0), rule("off_limits_tool", "x")]
    assert audited(rules, []) == audited(rules) == audited([]) == []
    with pytest.raises(ContractError, match="audited traces"):
        audit(*(pl.DataFrame(schema=schema) for schema in (GUARDRAILS, ACTIONS, ACTIONS, STARTS, COSTS)))
