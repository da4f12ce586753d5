"""Connections that are given from one process to another, with what was read of them already.

They go over one stream of a Unix socket, each as a frame with its file descriptor (SCM_RIGHTS): the kind, the length of
what was read, and that. The receiver goes on with the same connection: the client notices nothing.
"""

import asyncio
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal

__all__ = ["AVAILABLE", "Handover", "Kind"]

Kind = Literal["connection", "listening"]

AVAILABLE: Final = hasattr(socket, "send_fds") and hasattr(socket, "recv_fds") and hasattr(socket, "AF_UNIX")
"""Whether this system can do it."""

_HEAD = struct.Struct(">cI")
_LETTERS: dict[Kind, bytes] = {"connection": b"C", "listening": b"L"}
_KINDS: dict[bytes, Kind] = {letter: kind for kind, letter in _LETTERS.items()}
_BLOCK = 1 << 16
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_AGAIN_SECONDS = 0.01


class Handover:
    """One end of the stream, on a running event loop, in whose thread everything is called."""

    def __init__(
        self,
        end: socket.socket,
        loop: asyncio.AbstractEventLoop,
        taken: Callable[[Kind, socket.socket, bytes], None],
    ) -> None:
        """`taken` gets what the other side gives: the kind, the socket, which is its own from then on, and the bytes
        that were read of it."""
        self._end, self._loop, self._taken = end, loop, taken
        self._waiting: deque[tuple[int, bytes]] = deque()  # -1: the descriptor is sent, this is the rest of the frame
        self._writing = False
        self._closed = False
        self._came = b""
        self._descriptors: deque[int | None] = deque()
        end.setblocking(False)
        loop.add_reader(end, self._read)

    @property
    def closed(self) -> bool:
        """Whether nothing can be given any more."""
        return self._closed

    def give(self, kind: Kind, descriptor: int, read: bytes) -> bool:
        """Give a socket, by a descriptor that this closes; False, closing nothing, when the other side is gone."""
        if self._closed:
            return False
        self._waiting.append((descriptor, _HEAD.pack(_LETTERS[kind], len(read)) + read))
        if not self._writing:
            self._write()
        return True

    def close(self) -> None:
        """Give and take no more; connections that were not sent yet end. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        for descriptor in [each for each, _ in self._waiting] + list(self._descriptors):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._waiting.clear()
        self._descriptors.clear()
        self._end.close()

    def _write(self) -> None:
        while self._waiting and not self._closed:
            descriptor, content = self._waiting[0]
            try:
                if descriptor >= 0:
                    sent = socket.send_fds(self._end, [content], [descriptor])
                else:
                    sent = self._end.send(content)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno == errno.ETOOMANYREFS:
                    self._loop.call_later(_AGAIN_SECONDS, self._write)
                    return
                self.close()
                return
            if descriptor >= 0:
                os.close(descriptor)
            if sent < len(content):
                self._waiting[0] = (-1, content[sent:])
            else:
                self._waiting.popleft()
        wanted = bool(self._waiting) and not self._closed
        if wanted and not self._writing:
            self._loop.add_writer(self._end, self._write)
        elif self._writing and not wanted and not self._closed:
            self._loop.remove_writer(self._end)
        self._writing = wanted

    def _read(self) -> None:
        try:
            content, descriptors, flags, _ = socket.recv_fds(self._end, _BLOCK, 1, _CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            content, descriptors, flags = b"", [], 0
        self._descriptors.extend(descriptors)
        if not descriptors and flags & socket.MSG_CTRUNC:
            self._descriptors.append(None)  # this process has as many open as it may: that connection is lost
        if not content:
            self.close()
            return
        self._came += content
        while len(self._came) >= _HEAD.size:
            letter, length = _HEAD.unpack_from(self._came)
            end = _HEAD.size + length
            if len(self._came) < end:
                return
            read, self._came = self._came[_HEAD.size : end], self._came[end:]
            descriptor = self._descriptors.popleft() if self._descriptors else None
            if descriptor is not None:
                with suppress(OSError):
                    self._taken(_KINDS[letter], socket.socket(fileno=descriptor), read)
