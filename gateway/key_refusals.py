"""Why a request may not do what it asks, as errors that say what to do."""

from typing import ClassVar

from store.errors import TrimtabError

__all__ = ["AccessRefused", "KeyMissing", "KeyUnknown", "RateLimited", "ScopeMissing", "make_a_key"]


def make_a_key(scope: str) -> str:
    """The command that makes a key of this scope."""
    return f"python -m pipelines key create --scope {scope}"


class AccessRefused(TrimtabError):
    """A request that may not do what it asks. `status` and `headers` are those of the answer."""

    status: ClassVar[int] = 401
    reason: ClassVar[str] = "refused"

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the answer."""
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}


class KeyMissing(AccessRefused):
    """The request names no key and may not do without."""

    reason = "key_missing"

    def __init__(self, scope: str, why: str = "") -> None:
        self.scope, self.why = scope, why
        super().__init__(
            f"An API key with the scope {scope} is needed{why}. Make one with `{make_a_key(scope)}` and "
            "send it as `Authorization: Bearer KEY` or `x-api-key: KEY`."
        )


class KeyUnknown(AccessRefused):
    """The request names a key that is not in force. The text is the same for unknown, wrong and revoked ones."""

    reason = "key_unknown"

    def __init__(self) -> None:
        super().__init__(
            "The API key is not valid: it is misspelt, or it was revoked. "
            "Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`."
        )


class ScopeMissing(AccessRefused):
    """The key is in force and not for this."""

    status = 403
    reason = "scope_missing"

    def __init__(self, scope: str, held: frozenset[str]) -> None:
        self.scope, self.held = scope, held
        super().__init__(
            f"The API key lacks the scope {scope}; it has {', '.join(sorted(held))}. "
            f"Make one that has it with `{make_a_key(scope)}`."
        )


class RateLimited(AccessRefused):
    """The key sends more requests than it may. `retry_after` is in whole seconds, at least 1."""

    status = 429
    reason = "rate_limited"

    def __init__(self, retry_after: int, rate_per_second: float, burst: int) -> None:
        self.retry_after = retry_after
        super().__init__(
            f"This API key may send {rate_per_second:g} requests a second ({burst:,} at once); "
            f"try again in {retry_after} s, or send more records in one request."
        )

    @property
    def headers(self) -> dict[str, str]:
        """When to try again."""
        return {"Retry-After": str(self.retry_after)}
