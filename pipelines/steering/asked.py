"""What an agent asked with: a hash of it is logged, and by that it is found again among the inputs of traces."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

from pipelines.lessons.serving.choose import Request
from pipelines.steering.named_lessons import named_lessons
from pipelines.steering.policy import Arm

__all__ = ["CLIENT_CHARACTERS", "found", "input_hash", "request_of"]

CLIENT_CHARACTERS: Final = 20_000
"""The client in docs/client sends so much of a longer input."""


def input_hash(text: str) -> str:
    """What is logged of an input, which itself is kept nowhere: 128 bits of BLAKE2b."""
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def found(logged: str, texts: Iterable[str]) -> str | None:
    """The input with the hash `logged`: "", or one of these texts or its beginning; None when it is not there."""
    for text in ("", *texts):
        for sent in (text, text[:CLIENT_CHARACTERS]):
            if input_hash(sent) == logged:
                return sent
    return None


def request_of(row: Mapping[str, Any], text: str | None, salt: str, arms: Iterable[Arm]) -> Request:
    """What the lessons of a logged decision were chosen for.

    Args: `row` with the columns of `store.decisions.DECISIONS`; `text` the input; `salt` and `arms` of its policy.
    """
    ruled = next((named_lessons(arm) for arm in arms if arm.name == row["arm"]), ((), ()))
    return Request(
        input=text, user_id=row["user_id"], segment=row["segment"], task=row["task"], unit=row["unit"], salt=salt,
        now=row["decided_at"], force=ruled[0], forbid=ruled[1],
    )  # fmt: skip
