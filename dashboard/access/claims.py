"""What the provider's token says about a visitor, judged: whose address was proven, and for how long that holds.

OpenID Connect Core 1.0, sections 2 (iss, sub, iat) and 5.1 (email, email_verified). The signature was checked when the
operator came back from the provider, and Streamlit checks its own signature of the cookie that carries the claims.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from store import operators

__all__ = ["Identity", "NotProven", "judge"]

# So far the provider's clock may be ahead of ours.
_AHEAD = timedelta(minutes=5)


@dataclass(frozen=True)
class Identity:
    """A proven address. `session` tells this sign-in apart from every other; it is over at `expires_at`."""

    email: str
    session: str
    expires_at: datetime


class NotProven(Exception):
    """The claims prove no address, or no longer. The text is for the visitor."""


def judge(claims: Mapping[str, object], *, lasts: timedelta, now: datetime) -> Identity:
    """Whose address the claims prove. Raises: `NotProven`."""
    given = claims.get("email")
    email = operators.normal(given) if isinstance(given, str) else None
    if email is None:
        raise NotProven("The provider told no e-mail address. It has to put the claim email into its token.")
    # Some providers write truth as a text. Anything else, or nothing, proves nothing.
    if claims.get("email_verified") not in (True, "true"):
        raise NotProven("The provider does not say that your e-mail address is verified (claim email_verified).")
    issued = claims.get("iat")
    if isinstance(issued, bool) or not isinstance(issued, int | float) or not claims.get("sub"):
        raise NotProven("The provider's token does not say whom it is for and since when (claims sub and iat).")
    try:
        begun = datetime.fromtimestamp(issued, UTC)
    except (ValueError, OverflowError, OSError):
        raise NotProven("The provider's token is of no time that there is (claim iat).") from None
    if begun > now + _AHEAD:
        raise NotProven("The provider's token is of the future. Is a clock wrong?")
    if now >= begun + lasts:
        raise NotProven("Your sign-in is over. Sign in again.")
    # The nonce is new for each sign-in.
    told = [str(claims.get(name)) for name in ("iss", "sub", "iat", "nonce")]
    return Identity(email, hashlib.sha256(json.dumps(told).encode()).hexdigest(), begun + lasts)
