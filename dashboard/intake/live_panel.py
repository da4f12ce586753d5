"""What agents send right now, and how to make them send it."""

from datetime import datetime
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard.access import gate
from dashboard.intake import snippets
from dashboard.intake.places import open_batch
from dashboard.intake.tables import height, shown
from dashboard.runtime import Runtime
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from gateway.access import KEYLESS_SOURCE, KeyUse
from gateway.gateway import Gateway
from pipelines.live.intake import PENDING_BYTES, Counts
from store import api_keys, live

__all__ = ["live_panel"]

_OPEN: Final = "data_live_open"
_LEAVE: Final = "data_live_leave"
_MINUTE: Final = 60.0
_MB: Final = 1e6

# Why requests were refused at the door (`gateway.access`), in the order of what an operator can do about it.
_REFUSALS: Final = {
    "key_missing": "without a key",
    "key_unknown": "with a key that is not in force",
    "scope_missing": "with a key that lacks the scope",
    "rate_limited": "over their key's rate",
}

_SOURCES: Final = {
    "source": st.column_config.TextColumn("Source", width=170, pinned=True),
    "seen": st.column_config.TextColumn("Last seen", width=104),
    "received": st.column_config.NumberColumn("Received", width=88, format="localized", help="Spans and signals."),
    "accepted": st.column_config.NumberColumn("Accepted", width=88, format="localized"),
    "duplicate": st.column_config.NumberColumn("Duplicate", width=84, format="localized", help="Held already."),
    "rejected": st.column_config.NumberColumn("Rejected", width=80, format="localized"),
}

_KEYS: Final = {
    "name": st.column_config.TextColumn("Name", width=150, pinned=True, help="The source of what is sent with it."),
    "key_id": st.column_config.TextColumn("Key", width=126, help="The public part of its text."),
    "state": st.column_config.TextColumn("State", width=76),
    "scopes": st.column_config.TextColumn("Scopes", width=120),
    "used": st.column_config.TextColumn("Last used", width=104),
    "admitted": st.column_config.NumberColumn(
        "Admitted", width=84, format="localized", help="Requests since the server started."
    ),
    "refused": st.column_config.NumberColumn(
        "Refused", width=80, format="localized", help="Requests over its rate or outside its scopes, since the start."
    ),
    "rate": st.column_config.NumberColumn("Requests/s", width=88, format="localized", help="At most, in the long run."),
}


def live_panel(runtime: Runtime) -> None:
    """The figures, refreshed every two seconds, and below them what to copy."""
    _live(runtime)
    _connect(runtime)


@st.fragment(run_every="2s")
def _live(runtime: Runtime) -> None:
    gate.stay()
    if st.session_state.pop(_LEAVE, False):
        # A callback in a fragment draws only the fragment again: the tab is changed by the whole page.
        st.rerun()
    with states.guarded("What agents send", key="live"):
        sources = live.last_seen(runtime.store).sort("source")
        keys = api_keys.listed(runtime.store)
        counts = None if runtime.gateway is None else runtime.gateway.intake.counts()
        now = runtime.clock.now()
        _answer(sources, counts, now)
        if counts is not None and not (sources.is_empty() and _idle(counts)):
            _figures(counts)
        if runtime.gateway is not None and counts is not None:
            _troubles(runtime.gateway, counts)
        if not sources.is_empty():
            _sources(sources, now)
        _keys(runtime, keys, now)


def _answer(sources: pl.DataFrame, counts: Counts | None, now: datetime) -> None:
    """One sentence: whether data comes in, how much, and since when not."""
    latest: Any = sources["last_seen"].max()
    if counts is None:
        seen = "" if latest is None else f" Last seen {_ago(latest, now)}."
        st.warning(
            f"Live ingest needs the server, which does not run in this process.{seen} `make run` starts it.",
            icon=":material/power_off:",
        )
    elif latest is None:
        states.nothing(
            "Nothing has been received yet",
            "Agents send traces by OpenTelemetry and feedback as JSON to this server. Copy one of the snippets below "
            "into an agent; what it sends shows here within seconds.",
        )
    elif counts.rate > 0:
        st.success(
            f"Agents send **{_rate(counts.rate)} records/s**; last seen {_ago(latest, now)}.", icon=":material/sensors:"
        )
    elif (now - latest).total_seconds() < _MINUTE:
        # Of this second, or of before a restart: a rate is not known yet.
        st.success(f"Last seen {_ago(latest, now)}.", icon=":material/sensors:")
    else:
        st.info(f"Nothing came in the last minute; last seen {_ago(latest, now)}.", icon=":material/sensors_off:")


def _idle(counts: Counts) -> bool:
    """Whether no request has come to the queue since the start."""
    return not (counts.requests or counts.refused_requests or counts.failed_requests or counts.pending_requests)


def _figures(counts: Counts) -> None:
    with st.grid(6, min_column_width=130, gap="medium", key="data_live_figures"):
        st.metric("Records/s", _rate(counts.rate), help="Spans and signals, mean of the last minute.")
        st.metric(
            "Requests waiting", fmt.count(counts.pending_requests), help="Being read, decoded or committed right now."
        )
        st.metric(
            "Queue", f"{counts.pending_bytes / _MB:,.1f} MB",
            help=f"What waits, of at most {PENDING_BYTES / _MB:,.0f} MB. Beyond that agents are told to come back.",
        )  # fmt: skip
        st.metric("Received", fmt.count(counts.received), help="Spans and signals since the server started.")
        st.metric(
            "Rejected", fmt.count(counts.rejected),
            help="Of those, records that could not be read, since the start. The batch of the source names each.",
        )  # fmt: skip
        st.metric(
            "Told to wait", fmt.count(counts.refused_requests),
            help="Requests answered 429 because the queue was full, since the start. Exporters send them again.",
        )  # fmt: skip


def _troubles(gateway: Gateway, counts: Counts) -> None:
    """What keeps data out, when something does."""
    if counts.failed_requests:
        st.error(
            f"{fmt.plural(counts.failed_requests, 'request')} could not be stored since the start, and got "
            "an error as the answer. The server's log says why.",
            icon=":material/error:",
        )
    refused = gateway.access.refused()
    reasons = [f"{refused[reason]:,} {text}" for reason, text in _REFUSALS.items() if refused.get(reason)]
    if reasons:
        total = sum(refused.values())
        st.warning(
            f"{fmt.plural(total, 'request was', 'requests were')} refused at the door since the start: "
            f"{', '.join(reasons)}.",
            icon=":material/lock:",
        )


def _sources(sources: pl.DataFrame, now: datetime) -> None:
    """A row for each source, with the batch that counts its newest day."""
    st.subheader("Sources", anchor=False)
    st.caption(
        f"{fmt.plural(sources.height, 'source')}. Counts are of the newest UTC day on which each sent something; "
        "every day is a batch."
    )
    rows = shown(sources.select("source", *list(_SOURCES)[2:])).with_columns(
        seen=pl.Series([_ago(moment, now) for moment in sources["last_seen"]], dtype=pl.String),
        batch=pl.format("Batch {}", sources["batch_id"]),
    )
    opening = st.column_config.ButtonColumn(
        "What came of it", width=116, type="tertiary", on_click=_open, args=(sources["batch_id"].to_list(),), key=_OPEN
    )
    export.table(
        "live sources",
        rows.select(*_SOURCES, "batch"), key="data_live_sources", hide_index=True, height=height(rows.height),
        column_config={**_SOURCES, "batch": opening}, alt="Sources that sent live data",
    )  # fmt: skip


def _open(batch_ids: list[int]) -> None:
    """Open the batch in the row that was pressed; `batch_ids` are those of the table that the operator saw."""
    click: Any = st.session_state[_OPEN]
    if click is not None and 0 <= click["row"] < len(batch_ids):
        open_batch(batch_ids[click["row"]])
        st.session_state[_LEAVE] = True


def _keys(runtime: Runtime, keys: pl.DataFrame, now: datetime) -> None:
    """The keys with what each did, those in force first, and who may do without."""
    st.subheader("Keys", anchor=False)
    st.caption(_who_may_send(runtime, int(keys["revoked_at"].null_count())))
    if keys.is_empty():
        return
    used = {} if runtime.gateway is None else runtime.gateway.access.use()
    ordered = keys.sort(pl.col("revoked_at").is_not_null(), maintain_order=True)
    rows = pl.DataFrame(
        [_key(key, used.get(key["key_id"]), now) for key in ordered.to_dicts()], infer_schema_length=None
    )
    export.table(
        "use of keys",
        shown(rows.select(*_KEYS)), key="data_live_keys", hide_index=True, height=height(rows.height),
        column_config=_KEYS, alt="API keys with their use",
    )  # fmt: skip


def _key(key: dict[str, Any], use: KeyUse | None, now: datetime) -> dict[str, Any]:
    """A row of `_KEYS`. The process knows of a use up to a minute before the store does."""
    last = use.last_used_at if use is not None and use.last_used_at is not None else key["last_used_at"]
    return {
        "name": key["name"],
        "key_id": f"tt_{key['key_id']}",
        "state": "in force" if key["revoked_at"] is None else "revoked",
        "scopes": ", ".join(key["scopes"]),
        "used": "never" if last is None else _ago(last, now),
        "admitted": None if use is None else use.admitted,
        "refused": None if use is None else use.refused,
        "rate": key["rate_per_second"],
    }


def _who_may_send(runtime: Runtime, in_force: int) -> str:
    keys = f"{fmt.plural(in_force, 'key')} in force" if in_force else "No key is in force"
    if runtime.settings.allow_keyless_loopback:
        return (
            f"{keys}. Programs on this machine need none (TRIMTAB_ALLOW_KEYLESS_LOOPBACK=1); what they send without "
            f"one has the source {KEYLESS_SOURCE}. Web pages and other machines always need one."
        )
    if in_force:
        return f"{keys}. Every request needs one. `key revoke` puts one out of force at once."
    return (
        f"{keys}: nobody can send yet. Make one as shown below, or start the server with "
        "TRIMTAB_ALLOW_KEYLESS_LOOPBACK=1 to let programs on this machine do without."
    )


def _connect(runtime: Runtime) -> None:
    """The snippets, with the address at which this page was asked for."""
    base = snippets.address(st.context.url, runtime.settings)
    keyless = runtime.settings.allow_keyless_loopback
    st.subheader("Connect an agent", anchor=False)
    with st.container(border=True):
        st.markdown(
            "**A key** for whoever sends. Its text is shown once, when it is made; put it where the snippets say KEY."
        )
        st.code(snippets.key_command(runtime.settings.db.resolve()), language="bash", wrap_lines=True)
    with_key = True
    if keyless:
        with_key = st.toggle(
            "Send with a key", key="data_live_with_key",
            help="Programs on this machine may do without, as this server is set up.",
        )  # fmt: skip
    key = snippets.KEY if with_key else None
    otel, inference, plain = st.tabs(["OpenTelemetry", "OpenInference", "curl"], key="data_live_snippets")
    with otel:
        st.caption("Any SDK whose exporter speaks OTLP over HTTP takes these variables:")
        st.code(snippets.otel_variables(base, key), language="bash")
        st.caption("Or in Python, without variables:")
        st.code(snippets.otel_python(base, key))
    with inference:
        st.caption("Every call of the openai client becomes a span with its messages, tokens and cost:")
        st.code(snippets.openinference(base, key))
    with plain:
        st.caption("A trace in OTLP's JSON; its signals may come before or long after it:")
        st.code(snippets.curl(base, "/v1/traces", "one model call", key), language="bash", wrap_lines=True)
        st.caption("Feedback: one signal, or an array of them. With a signal_id it may be sent twice and counts once:")
        st.code(snippets.curl(base, "/v1/signals", "a thumb", key), language="bash", wrap_lines=True)
        st.code(snippets.curl(base, "/v1/signals", "clicks on what was shown", key), language="bash", wrap_lines=True)
    st.caption(
        f"200 means that it is on disk. All routes and fields: `{base}/v1/openapi.json`. Figures for Prometheus: "
        f"`{base}/metrics`."
    )


def _rate(rate: float) -> str:
    """Records a second; what came within a minute is never shown as nothing."""
    if rate >= 10:
        return f"{rate:,.0f}"
    return f"{rate:.1f}" if rate >= 0.1 else "<0.1" if rate > 0 else "0"


def _ago(moment: datetime, now: datetime) -> str:
    """How long ago: 3 s ago, 5 min ago. Clocks that were set back give 0 s."""
    seconds = max(0.0, (now - moment).total_seconds())
    return f"{int(seconds)} s ago" if seconds < _MINUTE else fmt.relative(moment, now)
