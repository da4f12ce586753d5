"""Webhooks against a real server: what arrives, how it is signed, and every way in which it may not."""

import hashlib
import hmac
import json
import socket
import threading
import time

import pytest

from pipelines.notices import webhook, wire
from pipelines.notices.wire import NotSent
from store.notice_route import Webhook
from tests.pipelines.notices.local_servers import WebServer
from tests.pipelines.notices.written import MOMENT, message, row

SECRETS = {"NOTICE_SECRET": "s3cret ü"}


def test_arrives_as_json_signed_over_timestamp_and_body(web: WebServer) -> None:
    hostile = row(title="<script>alert(1)</script>\r\nBcc: x@y", text="a\u202eb ☃", times=3)
    said = webhook.send(message(hostile, row(notice_id=8)), Webhook(web.url, None, "NOTICE_SECRET"), SECRETS)
    assert said == "Answered 204."
    (got,) = web.got
    assert got.path == "/hooks/trimtab?team=a"
    timestamp = got.headers["trimtab-timestamp"]
    expected = hmac.new("s3cret ü".encode(), timestamp.encode() + b"." + got.body, hashlib.sha256).hexdigest()
    assert got.headers["trimtab-signature"] == f"v1={expected}"
    assert int(timestamp) == int(MOMENT.timestamp())
    assert got.headers["trimtab-delivery"] == "d1"
    assert got.headers["content-type"] == "application/json"
    sent = json.loads(got.body)
    assert [each["id"] for each in sent["notices"]] == [7, 8]
    first = sent["notices"][0]
    assert first["title"] == hostile["title"]
    assert first["times"] == 3
    assert first["url"] == "http://127.0.0.1:8501/drift?incident=1+a"
    assert "s3cret" not in got.body.decode()


def test_a_known_signature() -> None:
    # printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
    assert webhook.signature("key", 1_700_000_000, b'{"a":1}') == (
        "v1=" + hmac.digest(b"key", b'1700000000.{"a":1}', "sha256").hex()
    )


def test_unsigned_without_a_secret_and_not_sent_without_its_value(web: WebServer) -> None:
    webhook.send(message(), Webhook(web.url), {})
    assert "trimtab-signature" not in web.got[0].headers
    with pytest.raises(NotSent, match="NOTICE_SECRET is not set"):
        webhook.send(message(), Webhook(web.url, None, "NOTICE_SECRET"), {})
    assert len(web.got) == 1


def test_the_address_may_be_a_secret_itself(web: WebServer) -> None:
    target = Webhook(None, "NOTICE_URL")
    assert webhook.send(message(), target, {"NOTICE_URL": web.url}) == "Answered 204."
    for environ in ({}, {"NOTICE_URL": "file:///etc/passwd"}, {"NOTICE_URL": "http://a@b/secret"}):
        with pytest.raises(NotSent, match="NOTICE_URL") as refused:
            webhook.send(message(), target, environ)
        assert "secret" not in refused.value.why
        assert "passwd" not in refused.value.why


@pytest.mark.parametrize("status", [400, 404, 410, 500, 503])
def test_any_other_answer_is_a_failure(web: WebServer, status: int) -> None:
    web.behaviour = status
    with pytest.raises(NotSent, match=f"Answered {status}"):
        webhook.send(message(), Webhook(web.url), {})


def test_asks_to_be_left_alone(web: WebServer) -> None:
    web.behaviour = web.busy("120")
    with pytest.raises(NotSent) as failure:
        webhook.send(message(), Webhook(web.url), {})
    assert failure.value.asked_seconds == 120.0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(web: WebServer, status: int) -> None:
    with WebServer() as elsewhere:
        web.behaviour = web.redirect(elsewhere.url, status)
        with pytest.raises(NotSent, match="redirect"):
            webhook.send(message(), Webhook(web.url), {})
        assert elsewhere.got == []
    assert len(web.got) == 1


@pytest.mark.parametrize("way", ["hang", "drip"])
def test_a_server_that_takes_its_time_is_cut_off(web: WebServer, way: str) -> None:
    web.behaviour = getattr(web, way)
    began = time.monotonic()
    with pytest.raises(NotSent, match=r"within 0\.3 seconds"):
        webhook.send(message(), Webhook(web.url), {}, seconds=0.3)
    # The dripping server would take minutes; thirty seconds are beyond any slow machine.
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("way", ["drop", "nonsense"])
def test_a_server_that_breaks_off(web: WebServer, way: str) -> None:
    web.behaviour = getattr(web, way)
    with pytest.raises(NotSent):
        webhook.send(message(), Webhook(web.url), {}, seconds=5)


def test_a_server_that_resets_the_connection() -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def reset() -> None:
        connection, _ = listening.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()

    threading.Thread(target=reset, daemon=True).start()
    with pytest.raises(NotSent):
        webhook.send(message(), Webhook(f"http://127.0.0.1:{listening.getsockname()[1]}/"), {}, seconds=5)
    listening.close()


def test_nobody_listens_and_no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    with pytest.raises(NotSent, match="connection failed"):
        webhook.send(message(), Webhook(f"http://127.0.0.1:{port}/"), {})

    def unknown(*about: object, **more: object) -> list[object]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(NotSent, match="not known"):
        webhook.send(message(), Webhook("http://nobody.example/"), {})


def test_a_certificate_that_is_not_trusted(web: WebServer) -> None:
    with pytest.raises(NotSent, match="SSL"):
        webhook.send(message(), Webhook(web.url.replace("http://", "https://")), {}, seconds=5)
    assert web.got == []


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1",
     "100.100.100.200", "fd00:ec2::254"],
)  # fmt: skip
def test_addresses_that_no_server_of_notices_has(address: str) -> None:
    with pytest.raises(NotSent, match="not one that notices are sent to"):
        wire.refuse(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.5", "192.168.1.2", "8.8.8.8", "fd12::1"])
def test_addresses_of_ones_own_network_are_what_it_is_for(address: str) -> None:
    wire.refuse(address)


def test_a_name_that_leads_to_the_metadata_service(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *about, **more: answer)
    with pytest.raises(NotSent, match=r"169\.254\.169\.254"):
        webhook.send(message(), Webhook("http://innocent.example/"), {})
