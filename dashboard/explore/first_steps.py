"""What the page shows before there is anything to explore: what an arm is, and how an agent asks for one."""

import shlex
from string import Template
from typing import Final

import streamlit as st

from dashboard import runtime
from dashboard.explore import arm_editor
from dashboard.intake import snippets
from dashboard.ui import states

__all__ = ["ask_snippet", "client_snippet", "key_command", "nothing_yet", "snippets_of"]

_CURL: Final = Template("""\
curl -sS $url \\
  -H 'x-api-key: KEY' -H 'Content-Type: application/json' \\
  --data '{"agent": "my-agent", "user_id": "user-7", "session_id": "visit-3", "arms": ["v1", "v2"]}'""")

_CLIENT: Final = Template("""\
from trimtab_steer import Trimtab  # one file without dependencies: docs/client/trimtab_steer.py

trimtab = Trimtab("$base", api_key="KEY", agent="my-agent", fallback_arm="v1")
decision = trimtab.steer(user_id="user-7", session_id="visit-3", arms=["v1", "v2"])
print(decision.arm, decision.explore, decision.limits)""")


def nothing_yet() -> None:
    """No agent has an arm."""
    states.nothing(
        "No agent has an arm yet",
        "An arm is one alternative an agent can run: a prompt version, a model, a tool set. 1. State it in the column "
        "“arm” of your traces, and the policies job finds it; or define it below. 2. Enable two arms here, and have "
        "the agent ask which one to run. 3. Once each has traces with signals a rate is recommended, and you apply it.",
    )
    st.page_link("views/data.py", label="Data", icon=":material/database:")
    with st.expander("Define the first arm", icon=":material/add:"):
        arm_editor.define("")
    snippets_of()


def snippets_of() -> None:
    """How an agent asks which arm to run, with the address of this server."""
    settings = runtime.current().settings
    base = snippets.address(st.context.url, settings)
    st.markdown("**Ask before each answer**")
    st.caption("In Python, with the one-file client. It answers within 50 ms or falls back to `fallback_arm`.")
    st.code(client_snippet(base), language="python")
    st.caption("With any other tool:")
    st.code(ask_snippet(base), language="bash")
    st.caption("KEY is a key with the scope steer. Make one in a terminal:")
    st.code(key_command(str(settings.db)), language="bash")


def ask_snippet(base: str) -> str:
    """A shell command that asks for an arm."""
    return _CURL.substitute(url=shlex.quote(f"{base}/v1/steer"))


def client_snippet(base: str) -> str:
    """A Python program that asks for an arm."""
    return _CLIENT.substitute(base=base)


def key_command(db: str) -> str:
    """The command that makes a key for asking."""
    return f".venv/bin/python -m pipelines key create --scope steer --name my-agent --db {shlex.quote(db)}"
