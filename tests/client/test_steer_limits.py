"""What the client's limits forbid is what the audit of traces finds afterwards."""

import json
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from docs.client.trimtab_steer import Limits
from pipelines.guardrails.actions import matches
from pipelines.guardrails.addresses import sites
from store.guardrail_subjects import action_pattern, site, text_pattern


def audited(limits: Limits, tool: str, arguments: Any) -> bool:
    """Whether `pipelines.guardrails.audit` would find a violation in a call."""
    text = json.dumps(arguments)
    patterns = [found for each in limits.off_limits_actions if (found := action_pattern(each))]
    forbidden = [found for each in limits.off_limits_sites if (found := site(each))]
    return (
        any(text_pattern(each).fullmatch(normalize("NFC", tool).strip()) for each in limits.off_limits_tools)
        or any(matches(each, tool, text, None) for each in patterns)
        or any(each.covers(asked) for each in forbidden for asked in sites(text, None))
    )


TOOLS = st.sampled_from(["refund", "Refund", "refund_all", "refunds", "pay", "shell.run", "caf\u00e9", "cafe\u0301"])
SUBJECTS = st.sampled_from(["refund", "REFUND", "refund*", "*", "*.run", "shell?run", "re*nd", "caf\u00e9", " pay "])
ACTIONS = st.sampled_from(
    ["pay", "pay(amount=1*)", "pay(amount=12, to.city=Oslo)", "*(to.city=os*)", "pay(to=*)", "refund(amount=true)",
     "pay(to.city=Oslo,amount=99)", "pay ( amount = 12 )"]
)  # fmt: skip
SITES = st.sampled_from(
    ["example.com", "Example.COM:8443", "bad.example.com", "10.0.0.1", "b\u00fccher.de", "[::1]:80", "example.com."]
)
PLACES = st.sampled_from(
    ["https://example.com/a", "see http://api.Example.com:8443/x, now", "example.com", "notexample.com",
     "//example.com", "http://user:pw@example.com:8443", "https://b\u00fccher.de/", "https://xn--bcher-kva.de", "http://10.0.0.1:80/",
     "http://[::1]/", "ftp://example.com", "", "a b c", "https://example.com.evil.org"]
)  # fmt: skip
ARGUMENTS = st.dictionaries(
    st.sampled_from(["amount", "to", "url", "note", "base_url", "Host"]),
    st.sampled_from([12, 1, 99.5, True, None, "12", " 12 ", "oslo"])
    | st.dictionaries(st.sampled_from(["city", "url"]), st.sampled_from(["Oslo", "Bergen"]) | PLACES, max_size=2)
    | st.lists(st.fixed_dictionaries({"city": st.sampled_from(["Oslo", "Bergen"])}) | PLACES, max_size=2)
    | PLACES,
    max_size=3,
)


@given(st.lists(SUBJECTS, max_size=2), st.lists(ACTIONS, max_size=2), st.lists(SITES, max_size=2), TOOLS, ARGUMENTS)
@example(["*"], [], [], "anything", {})
@example([], [], ["example.com"], "get", {"url": "https://api.example.com/x"})
def test_what_is_forbidden_is_what_the_audit_finds(
    tools: list[str], actions: list[str], hosts: list[str], tool: str, arguments: dict[str, Any]
) -> None:
    limits = Limits(tuple(tools), tuple(hosts), tuple(actions))
    assert (limits.forbids(tool, arguments) is not None) == audited(limits, tool, arguments)


@pytest.mark.parametrize(
    ("limits", "tool", "arguments", "why"),
    [
        (Limits(), "refund", {"url": "https://example.com"}, None),
        (Limits(off_limits_tools=("re*",)), "Refund", None, "the tool re* is off limits"),
        (Limits(off_limits_tools=("re*",)), "prefund", None, None),
        (Limits(off_limits_actions=("pay(to.city=Oslo)",)), "pay", {"to": [{"city": "Bergen"}, {"city": "oslo"}]},
         "the action pay(to.city=Oslo) is off limits"),
        (Limits(off_limits_actions=("pay(to.city=Oslo)",)), "pay", {"to": {"city": "Bergen"}}, None),
        (Limits(off_limits_actions=("pay(to.city=Oslo)",)), "pay", None, None),
        (Limits(off_limits_sites=("example.com:443",)), "get", {"q": "(https://a.example.com)"},
         "the site example.com:443 is off limits"),
        (Limits(off_limits_sites=("example.com:443",)), "get", {"q": "http://a.example.com"}, None),
        (Limits(off_limits_sites=("example.com",)), "get", {"q": "example.com"}, None),
        (Limits(off_limits_sites=("example.com",)), "get", {"host": "EXAMPLE.com."},
         "the site example.com is off limits"),
    ],
)  # fmt: skip
def test_limits_say_why(limits: Limits, tool: str, arguments: Any, why: str | None) -> None:
    assert limits.forbids(tool, arguments) == why
