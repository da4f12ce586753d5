"""Sites and actions as operators write them."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.guardrail_subjects import Site, action_pattern, host_name, site, text_pattern


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("bücher.de", "xn--bcher-kva.de"),
        ("BÜCHER.de", "xn--bcher-kva.de"),
        ("xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("faß.de", "xn--fa-hia.de"),  # non-transitional, as browsers do since 2023
        ("ｅｘａｍｐｌｅ．com", "example.com"),
        ("example。com", "example.com"),
        ("exam\u00adple.com", "example.com"),
        ("%65xample.com", "example.com"),
        ("my_host.internal", "my_host.internal"),
        ("localhost", "localhost"),
        ("127.1", "127.0.0.1"),
        ("0x7f.0.0.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("::FFFF:127.0.0.1", "127.0.0.1"),
        ("[2001:DB8::0:1]", "2001:db8::1"),
    ],
)
def test_a_host_has_one_form_however_it_is_written(written: str, meant: str) -> None:
    assert host_name(written) == meant


@pytest.mark.parametrize(
    "written", ["", ".", "a..b", "exa mple.com", "256.1.1.1", "1.2.3.4.5", "a/b", ":::", "x" * 254]
)
def test_what_is_no_host_is_none(written: str) -> None:
    assert host_name(written) is None


@given(st.ip_addresses(v=4))
def test_every_notation_of_an_address_is_the_same_host(address: ipaddress.IPv4Address) -> None:
    octal = ".".join(f"0{int(part):o}" for part in str(address).split("."))
    for written in (str(address), str(int(address)), hex(int(address)), octal):
        assert host_name(written) == str(address)


def test_a_site_covers_what_is_below_it_and_on_its_port_only() -> None:
    everywhere, one_port = Site("example.com"), Site("example.com", 8443)
    assert everywhere.covers(Site("example.com", 80))
    assert everywhere.covers(Site("a.b.example.com"))
    assert not everywhere.covers(Site("notexample.com"))
    assert not everywhere.covers(Site("com"))
    assert not everywhere.covers(Site("example.com.evil.net"))
    assert one_port.covers(Site("a.example.com", 8443))
    assert not one_port.covers(Site("example.com", 443))
    assert not Site("0.0.1").covers(Site("127.0.0.1"))


def test_ports_and_addresses_in_brackets() -> None:
    assert site("example.com:8443") == Site("example.com", 8443)
    assert site("[::1]:80") == Site("::1", 80)
    assert site("::1") == Site("::1")
    assert str(site("[::1]:80")) == "[::1]:80"
    for wrong in (
        "example.com:0",
        "example.com:65536",
        "example.com:x",
        "http://example.com",
        "[::1",
        "[example.com]",
        "",
    ):
        assert site(wrong) is None


def test_a_star_is_the_only_special_character() -> None:
    assert text_pattern("send_*").fullmatch("SEND_email")
    assert not text_pattern("send.email").fullmatch("send_email")
    assert text_pattern("a*").fullmatch("a\nb")
    assert not text_pattern("send").fullmatch("send_email")
    assert text_pattern("cafe\u0301").fullmatch("caf\u00e9")


@pytest.mark.parametrize("wrong", ["", "()", "f(", "f()", "f(a)", "f(=x)", "f(a=)", "f(a..b=x)", "f(a=x,)"])
def test_actions_that_cannot_be_read(wrong: str) -> None:
    assert action_pattern(wrong) is None
