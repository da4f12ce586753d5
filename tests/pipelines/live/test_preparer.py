"""Decoding in a process of its own: the same answer, errors that cross over, and what happens when a process ends."""

import asyncio
import gzip
import json
import os
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.live import preparer as module
from pipelines.live.prepare import BodyTooLarge, decompressed, prepare
from pipelines.live.preparer import DecoderLost, Preparer
from pipelines.otel.wire import MalformedRequest

ROOT = Path(__file__).resolve().parents[3]


def _body(count):
    return json.dumps(
        [{"kind": "click", "trace_id": f"t{n}", "item": "x" * 50, "unknown": n} for n in range(count)]
    ).encode()


@pytest.fixture(scope="module")
def preparer():
    made = Preparer()
    yield made
    made.close()


def _run(preparer, body, kind="signals", encoding="identity"):
    # In a thread of its own: a browser test in this process may have left an event loop running here.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(preparer.prepare(body, kind, encoding, "desk"))).result()


def _processes(preparer):
    return [preparer._worker.pid] if preparer._worker is not None else []


def test_a_large_body_is_decoded_in_another_process_with_the_same_result(preparer):
    body = _body(200)
    assert len(body) > module._SMALL
    other, here = _run(preparer, body), prepare(body, "signals", "identity", "desk")
    assert _processes(preparer)
    assert other.tables["signals"].equals(here.tables["signals"])
    assert (other.received, other.refused) == (here.received, here.refused) == (200, [])


def test_refused_records_and_unreadable_bodies_cross_over(preparer):
    body = json.dumps([{"kind": "thumb", "trace_id": "t"}] * 500).encode()
    other = _run(preparer, body)
    assert other.refused == prepare(body, "signals", "identity", "desk").refused
    with pytest.raises(MalformedRequest, match="not valid JSON"):
        _run(preparer, b"[" + b"x" * module._SMALL)
    packed = gzip.compress(os.urandom(module._SMALL))
    with pytest.raises(MalformedRequest, match="ends early"):
        _run(preparer, packed[:-20], encoding="gzip")


def test_an_error_with_arguments_of_its_own_crosses_over(preparer):
    """What a process raises is rebuilt from its arguments; one that cannot be would break the pool."""
    bomb = gzip.compress(b"0" * (65 << 20))
    assert len(bomb) > module._SMALL
    with pytest.raises(BodyTooLarge) as refusal:
        _run(preparer, bomb, encoding="gzip")
    assert refusal.value.limit == 64 << 20
    assert "larger than 67,108,864 bytes" in str(refusal.value)
    assert _run(preparer, _body(200)).received == 200


def test_a_killed_process_loses_the_request_and_the_next_one_works():
    preparer = Preparer()
    try:
        assert _run(preparer, _body(200)).received == 200
        (victim,) = _processes(preparer)

        async def lose():
            pending = asyncio.ensure_future(preparer.prepare(_body(9_900), "signals", "identity", "desk"))
            await asyncio.sleep(0)
            os.kill(victim, signal.SIGKILL)
            await pending

        with pytest.raises(DecoderLost, match="Send it again"):
            asyncio.run(lose())
        assert _run(preparer, _body(200)).received == 200
        assert victim not in _processes(preparer)
    finally:
        preparer.close()


def test_a_small_body_starts_no_process_and_a_closed_preparer_starts_none():
    preparer = Preparer()
    assert _run(preparer, _body(2)).received == 2
    assert _processes(preparer) == []
    preparer.close()
    with pytest.raises(DecoderLost):
        _run(preparer, _body(200))
    preparer.close()


_PARENT = """
import asyncio, os, sys, time
from pipelines.live.preparer import Preparer

if __name__ == "__main__":
    preparer = Preparer()
    body = b"[" + b",".join([b'{"kind": "click", "trace_id": "t"}'] * 500) + b"]"
    asyncio.run(preparer.prepare(body, "signals", "identity", "desk"))
    print(preparer._worker.pid, flush=True)
    time.sleep(600)
"""


def test_the_process_ends_when_the_one_that_started_it_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    try:
        child = int(parent.stdout.readline())
        handle = os.pidfd_open(child)
        assert select.select([handle], [], [], 0)[0] == []
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    ended, _, _ = select.select([handle], [], [], 30)
    os.close(handle)
    assert ended


def test_gzip_members_padding_and_limits():
    parts = gzip.compress(b"ab") + gzip.compress(b"cd")
    assert decompressed(parts) == b"abcd"
    assert decompressed(parts + b"\0" * 9) == b"abcd"
    assert decompressed(parts, limit=4) == b"abcd"
    with pytest.raises(BodyTooLarge):
        decompressed(parts, limit=3)
    for broken in (b"", b"plain", parts[:-1], parts + b"x"):
        with pytest.raises(MalformedRequest):
            decompressed(broken)
