"""The form of a route: where notices go, which, and when."""

from typing import Any, Final, cast, get_args
from zoneinfo import available_timezones

import streamlit as st

from dashboard import runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.notices.words import KINDS
from store import notice_routes
from store.errors import ActionRefused
from store.notice_route import Email, QuietHours, Route, Security, Webhook
from store.notice_routes import HeldRoute
from store.notices import SEVERITIES, Severity

__all__ = ["draw"]

_NEW: Final = "route_new"
_VARIABLE_HELP: Final = "The name of an environment variable that begins with NOTICE_; never the secret itself."


def draw(held: HeldRoute | None) -> None:
    """The form of a new route, or of one that is there. Its channel stays what it is."""
    prefix = _NEW if held is None else f"route_{held.route_id}"
    if held is None:
        channel = st.segmented_control(
            "By", ["webhook", "e-mail"], default="webhook", required=True, key=f"{prefix}_channel"
        )
    else:
        channel = "webhook" if isinstance(held.route.target, Webhook) else "e-mail"
    route = None if held is None else held.route
    with st.form(f"{prefix}_form"):
        st.text_input("Name", route.name if route else "", key=f"{prefix}_name", max_chars=80,
                      placeholder="Such as operators' chat")  # fmt: skip
        if channel == "webhook":
            _webhook(prefix, route.target if route is not None and isinstance(route.target, Webhook) else Webhook())
        else:
            _email(prefix, route.target if route is not None and isinstance(route.target, Email) else None)
        _which(prefix, route)
        _when(prefix, route)
        offer.submit(
            "Add" if held is None else "Save", type="primary", icon=":material/save:", key=f"{prefix}_save",
            role="admin", on_click=_saved, args=(prefix, str(channel), None if held is None else held.route_id),
        )  # fmt: skip


def _webhook(prefix: str, target: Webhook) -> None:
    st.text_input(
        "Address", target.url or "", key=f"{prefix}_url", placeholder="https://chat.example.com/hooks/trimtab",
        help="It is sent JSON by POST. Redirects are not followed. Leave it empty when a variable holds it.",
    )  # fmt: skip
    st.text_input("Variable of the address", target.url_variable or "", key=f"{prefix}_url_variable",
                  help=f"Where the address itself is a secret. {_VARIABLE_HELP}")  # fmt: skip
    st.text_input(
        "Variable of the signing secret", target.secret_variable or "", key=f"{prefix}_secret_variable",
        placeholder="NOTICE_SECRET",
        help=f"Messages are signed with HMAC-SHA256 (header Trimtab-Signature). {_VARIABLE_HELP}",
    )  # fmt: skip


def _email(prefix: str, target: Email | None) -> None:
    with st.container(horizontal=True):
        st.text_input(
            "Mail server", target.host if target else "", key=f"{prefix}_host", placeholder="smtp.example.com"
        )
        st.number_input("Port", 1, 65_535, target.port if target else 587, key=f"{prefix}_port")
    choices = list(get_args(Security))
    st.selectbox("Security", choices, choices.index(target.security) if target else 0, key=f"{prefix}_security")
    st.text_input("From", target.sender if target else "", key=f"{prefix}_sender", placeholder="trimtab@example.com")
    st.text_area("To, one address a line", "\n".join(target.recipients) if target else "", key=f"{prefix}_recipients")
    st.text_input("User, where the server asks for one", (target.user if target else None) or "", key=f"{prefix}_user")
    st.text_input("Variable of the password", (target.password_variable if target else None) or "",
                  key=f"{prefix}_password_variable", placeholder="NOTICE_PASSWORD", help=_VARIABLE_HELP)  # fmt: skip


def _which(prefix: str, route: Route | None) -> None:
    grave = list(SEVERITIES)
    st.selectbox("From this severity on", grave, grave.index(route.least_severity if route else "warning"),
                 key=f"{prefix}_severity")  # fmt: skip
    chosen = list(route.kinds) if route else []
    st.multiselect("Kinds", sorted({*KINDS, *chosen}), chosen, key=f"{prefix}_kinds", placeholder="Every kind",
                   accept_new_options=True)  # fmt: skip
    st.number_input(
        "Minutes in which notices are one message", 0, 1_440, route.group_minutes if route else 5,
        key=f"{prefix}_group", help="A message leaves this long after its first notice. 0: at once.",
    )  # fmt: skip


def _when(prefix: str, route: Route | None) -> None:
    quiet = route.quiet if route else None
    st.checkbox("Quiet hours", quiet is not None, key=f"{prefix}_quiet")
    with st.container(horizontal=True):
        st.text_input("from (HH:MM)", quiet.start if quiet else "22:00", key=f"{prefix}_from", max_chars=5)
        st.text_input("to", quiet.end if quiet else "07:00", key=f"{prefix}_to", max_chars=5)
    zones = sorted(available_timezones())
    zone = quiet.zone if quiet and quiet.zone in zones else "UTC"
    st.selectbox("in the time zone", zones, zones.index(zone), key=f"{prefix}_zone")
    st.checkbox("Critical notices do not wait", route.critical_passes if route else True, key=f"{prefix}_critical")


def _saved(prefix: str, channel: str, route_id: int | None) -> None:
    read = {str(key)[len(prefix) + 1 :]: value for key, value in st.session_state.items()
            if str(key).startswith(f"{prefix}_")}  # fmt: skip

    def work() -> str:
        store, route = runtime.current().store, _route(read, channel)
        if route_id is None:
            notice_routes.add(store, route, operator=operator())
            return "The route is there. Send a test to see that messages arrive."
        notice_routes.change(store, route_id, route, operator=operator())
        return "The route is changed."

    perform(work, role="admin")


def _route(read: dict[str, Any], channel: str) -> Route:
    """The route that the form describes. Raises: `ActionRefused` for what `notice_route.checked` refuses."""
    try:
        target: Webhook | Email
        if channel == "webhook":
            target = Webhook(read["url"] or None, read["url_variable"] or None, read["secret_variable"] or None)
        else:
            target = Email(
                read["host"], int(read["port"]), cast(Security, read["security"]), read["sender"],
                tuple(str(read["recipients"]).splitlines()), read["user"] or None, read["password_variable"] or None,
            )  # fmt: skip
        quiet = QuietHours(read["from"].strip(), read["to"].strip(), read["zone"]) if read["quiet"] else None
        return Route(
            read["name"], target, tuple(read["kinds"]), cast(Severity, read["severity"]), quiet, bool(read["critical"]),
            int(read["group"]),
        )  # fmt: skip
    except (KeyError, TypeError) as missing:
        raise ActionRefused("Save the route", "the form was not whole.", "Reload the page and try again.") from missing
