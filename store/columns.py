"""The columns of the fact tables, in table order: what a staged slice holds and what is hashed as its content."""

TRACE_RECORD_COLUMNS: dict[str, str] = {
    "trace_id": "VARCHAR",
    "source": "VARCHAR",
    "agent": "VARCHAR",
    "agent_version": "VARCHAR",
    "user_id": "VARCHAR",
    "session_id": "VARCHAR",
    "task": "VARCHAR",
    "arm": "VARCHAR",
    "model": "VARCHAR",
    "model_fingerprint": "VARCHAR",
    "decision_id": "VARCHAR",
    "started_at": "TIMESTAMPTZ",
    "ended_at": "TIMESTAMPTZ",
    "status": "VARCHAR",
    "input": "VARCHAR",
    "output": "VARCHAR",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cost_usd": "DOUBLE",
    "metadata": "VARCHAR",
}

SPAN_COLUMNS: dict[str, str] = {
    "trace_id": "VARCHAR",
    "span_id": "VARCHAR",
    "parent_span_id": "VARCHAR",
    "ordinal": "INTEGER",
    "kind": "VARCHAR",
    "name": "VARCHAR",
    "started_at": "TIMESTAMPTZ",
    "ended_at": "TIMESTAMPTZ",
    "status": "VARCHAR",
    "status_message": "VARCHAR",
    "input": "VARCHAR",
    "output": "VARCHAR",
    "model": "VARCHAR",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cost_usd": "DOUBLE",
    "attributes": "VARCHAR",
    "links": "VARCHAR",
    "source": "VARCHAR",
    "agent": "VARCHAR",
    "agent_version": "VARCHAR",
    "user_id": "VARCHAR",
    "session_id": "VARCHAR",
    "task": "VARCHAR",
    "arm": "VARCHAR",
    "model_fingerprint": "VARCHAR",
    "decision_id": "VARCHAR",
}

SIGNAL_COLUMNS: dict[str, str] = {
    "signal_id": "VARCHAR",
    "trace_id": "VARCHAR",
    "span_id": "VARCHAR",
    "session_id": "VARCHAR",
    "user_id": "VARCHAR",
    "kind": "VARCHAR",
    "name": "VARCHAR",
    "item": "VARCHAR",
    "value": "DOUBLE",
    "text": "VARCHAR",
    "position": "INTEGER",
    "propensity": "DOUBLE",
    "solicited": "BOOLEAN",
    "annotator_kind": "VARCHAR",
    "annotator_id": "VARCHAR",
    "occurred_at": "TIMESTAMPTZ",
    "source": "VARCHAR",
    "metadata": "VARCHAR",
}

FACT_COLUMNS: dict[str, dict[str, str]] = {
    "trace_records": TRACE_RECORD_COLUMNS,
    "spans": SPAN_COLUMNS,
    "signals": SIGNAL_COLUMNS,
}

# A staged slice: the facts' columns, their hash, and the record of the file that each row came from.
CONTENT_HASH = "content_hash"
RECORD_NO = "record_no"
