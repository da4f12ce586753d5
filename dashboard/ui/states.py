"""What a page shows instead of its content: nothing yet, not enough data, not ready yet, an error to recover from."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import streamlit as st

from store.errors import Forbidden, NotFound, QueryTimeout, TrimtabError

__all__ = ["guarded", "not_enough", "nothing"]


def nothing(title: str, body: str) -> None:
    """An empty state: what would be here and how to get it. Both texts are ours (Markdown)."""
    with st.container(border=True):
        st.markdown(f"**{title}**")
        st.caption(body)


def not_enough(what: str, have: int, need: int, noun: str) -> None:
    """A panel that has too little data to say anything: how much there is, how much is missing."""
    with st.container(border=True):
        st.markdown(f"**{what}: not enough data**")
        st.caption(f"{have:,} of at least {need:,} {noun}; {max(0, need - have):,} more are needed.")


@contextmanager
def guarded(what: str, *, key: str, height: int | None = None) -> Iterator[None]:
    """Show an error of the store inside the page instead of breaking it, and a placeholder while it is slow.

    `what` is ours and starts the sentence; `height` of the placeholder in pixels, None for none. The error's own text
    may quote data, so it is shown as plain text.
    """
    try:
        with st.skeleton(height=height) if height else nullcontext():
            yield
    except QueryTimeout as error:
        st.warning(
            f"{what} took longer than {error.seconds:g} s and was stopped, so that other pages stay fast. "
            "Narrow the time range or the filters, or try again.",
            icon=":material/timer_off:",
        )
        st.button("Try again", key=f"retry-{key}", icon=":material/refresh:")
    except NotFound as error:
        st.warning(f"{what}: there is no such {error.noun}.", icon=":material/search_off:")
        st.text(error.identity[:300])
    except Forbidden as error:
        st.warning(f"{what} is not for your role.", icon=":material/lock:")
        st.text(str(error))
    except TrimtabError as error:
        st.error(f"{what} could not be read.", icon=":material/error:")
        st.code(str(error)[:2_000], language=None, wrap_lines=True)
        st.button("Try again", key=f"retry-{key}", icon=":material/refresh:")
