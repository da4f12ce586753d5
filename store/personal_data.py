"""Where the store holds what belongs to a person: of every table which rows go with them, and which texts name them.

The conditions read temporary tables that say what goes: gone_users, gone_traces, gone_sessions, gone_decisions,
gone_signals, gone_calls, each with one column `id` (`begin`). Forgetting a person fills all of them; retention those
of what has become old.
"""

from collections.abc import Sequence
from typing import Final

import duckdb

__all__ = [
    "ERASED", "FACTS", "HARMLESS", "KEPT", "KINDS", "MENTIONS", "begin", "derived", "erase", "expected", "fill",
    "note_removals", "others",
]  # fmt: skip

KINDS: Final = ("users", "traces", "sessions", "decisions", "signals", "calls")
"""What can go, by the temporary tables gone_*."""

_USER: Final = "user_id IN (FROM gone_users)"
_TRACE: Final = "trace_id IN (FROM gone_traces)"
_SIGNAL: Final = "signal_id IN (FROM gone_signals)"
_DECISION: Final = "decision_id IN (FROM gone_decisions)"
_SUBJECT: Final = "(subject_id IN (FROM gone_traces) OR subject_id IN (FROM gone_signals))"

ERASED: Final[dict[str, str]] = {
    "trace_records": _TRACE,
    "spans": _TRACE,
    "superseded_spans": _TRACE,
    "signals": _SIGNAL,
    "superseded_signals": _SIGNAL,
    "traces": _TRACE,
    "trace_tasks": _TRACE,
    "trace_paths": _TRACE,
    "trace_surprise": _TRACE,
    "trace_publications": "key IN (SELECT hash(id) FROM gone_traces)",
    "signal_publications": "key IN (SELECT hash(id) FROM gone_signals)",
    "signal_links": f"{_SIGNAL} OR {_TRACE}",
    "rewards": _TRACE,
    "step_credits": _TRACE,
    "parallel_credits": _TRACE,
    "failure_labels": _TRACE,
    "lesson_evidence": _TRACE,
    "guardrail_violations": f"{_TRACE} OR {_DECISION}",
    "judge_draws": _SUBJECT,
    "judge_verdicts": f"{_SUBJECT} OR {_TRACE} OR {_SIGNAL}",
    "decisions": _DECISION,
    "exposures": _DECISION,
    "policy_users": _USER,
    "reward_people": _USER,
    "user_preferences": _USER,
    "user_summaries": _USER,
    "stated_revealed": _USER,
    "drift_findings": _USER,
    "learning_opt_outs": _USER,
    "drift_states": _USER,
    "drift_responses": _USER,
    "incident_findings": _USER,
    "user_segments": _USER,
    "model_answers": _TRACE,
    "unit_rates": "scope = 'user' AND unit IN (FROM gone_users)",
    "never_explore": "kind = 'user' AND unit IN (FROM gone_users)",
    "exploration_bounds": "scope = 'user' AND unit IN (FROM gone_users)",
    "contrast_groups": """best_trace_id IN (FROM gone_traces) OR worst_trace_id IN (FROM gone_traces)
        OR list_has_any(good_trace_ids || bad_trace_ids, (SELECT coalesce(list(id), []) FROM gone_traces))""",
    "graduation_sources": f"{_TRACE} OR other_id IN (FROM gone_traces) OR {_USER}",
    "llm_answers": """call_id IN (FROM gone_calls)
        OR content_hash IN (SELECT content_hash FROM llm_calls WHERE call_id IN (FROM gone_calls))""",
}
"""Which rows of a table go."""

MENTIONS: Final[dict[str, tuple[str, ...]]] = {
    "abstract_states": ("name", "arguments"),
    "api_keys": ("name",),
    "arms": ("description", "definition", "state_reason"),
    "contrast_patterns": ("pattern", "argument", "shape", "explained_by", "tool", "other_tool"),
    "contrast_runs": ("parameters",),
    "distil_proposals": ("reason", "supporting", "opposing", "decision_reason", "applied"),
    "distil_runs": ("parameters", "message"),
    "exploration_bounds": ("unit",),
    "exploration_rates": ("reason", "arms"),
    "failure_rules": ("subject",),
    "failure_runs": ("parameters",),
    "fine_tunings": ("message",),
    "graduation_exports": ("lessons", "manifest"),
    "graduation_files": ("content",),
    "graduation_trials": ("message",),
    "guardrails": ("subject",),
    "incidents": ("title", "cause_detail"),
    "inferred_weights": ("note", "feature"),
    "ingest_batches": ("file_name", "fidelity", "error", "mapping"),
    "ingest_rejects": ("column_name", "reason", "raw"),
    "interventions": ("title",),
    "job_runs": ("message", "error", "traceback"),
    "judge_rubrics": ("text",),
    "lesson_drafting": ("chosen", "cut", "dropped", "message"),
    "lesson_evidence": ("quote",),
    "lesson_links": ("note",),
    "lesson_lint": ("excerpt", "message"),
    "lesson_overrides": ("excerpt", "reason"),
    "lesson_reviews": ("reason", "change"),
    "lesson_versions": ("title", "when_text", "when_not", "do_text", "why", "taint"),
    "lesson_payoffs": ("reason",),
    "lesson_settings": ("serving_off",),
    "lessons": ("user_id", "paused", "state_reason"),
    "llm_answers": ("answer",),
    "llm_batches": ("content", "message"),
    "llm_calls": ("run", "subject", "error"),
    "notices": ("title", "text", "notice_key", "query"),
    "payoff_runs": ("message",),
    "playbooks": ("body", "cause", "entries", "settings"),
    "policies": ("content",),
    "preference_rankings": ("item", "reference", "reason"),
    "pull_states": ("progress", "watermarks", "error"),
    "reward_loadings": ("note",),
    "reward_models": ("parameters",),
    "reward_model_state": ("state",),
    "reward_versions": ("reason",),
    "signal_yields": ("reason",),
    "stated_weights": ("reason",),
    "task_groups": ("representative",),
    "drift_metrics": ("reason",),
    "drift_rules": ("parameters",),
    "embedding_state": ("error",),
    "incident_events": ("text",),
    "incident_runs": ("parameters",),
    "model_changes": ("detail",),
    "model_probe_runs": ("plan", "message", "results"),
    "model_watch_runs": ("parameters",),
    "notice_deliveries": ("outcome",),
    "saved_views": ("name", "query"),
    "segment_rules": ("conditions", "reason"),
    "tool_credits": ("state", "reason"),
    "transition_models": ("parameters",),
    "transition_states": ("label",),
    "unit_rates": ("reason",),
}
"""Columns of small tables whose texts may name a person or repeat what they said: those places are taken out."""

FACTS: Final[dict[str, tuple[str, ...]]] = {
    "trace_records": ("input", "output", "metadata", "task"),
    "spans": ("name", "status_message", "input", "output", "attributes", "links"),
    "superseded_spans": ("name", "status_message", "input", "output", "attributes", "links"),
    "signals": ("text", "item", "metadata", "annotator_id"),
    "superseded_signals": ("text", "item", "metadata", "annotator_id"),
    "traces": ("input", "output", "metadata", "task"),
    "decisions": ("unit", "note"),
    "exposures": ("unit",),
}
"""Texts of other people's rows, in which a person's id may occur."""

KEPT: Final[dict[str, str]] = {
    "drift_calibrations": "tables of critical values", "drift_progress": "counters", "ended_sessions": "operators",
    "incident_metrics": "means", "model_anchors": "names of models", "model_days": "counts", "model_figures": "means",
    "model_probe_samples": "answers to prompts that operators wrote", "model_probe_settings": "settings",
    "model_probes": "prompts that operators wrote", "notice_routes": "settings", "notices_delivered": "ids of notices",
    "operators": "operators", "operator_visits": "operators",
    "backup_settings": "settings", "backups": "names of files and counts",
    "audit_log": "rows that name the person are redacted (store.audit.redact), the chain stays",
    "contrast_agents": "counts of an agent", "credit_runs": "counts", "distil_members": "lessons",
    "drift_runs": "counts", "forgotten": "keyed digests", "hacking_watch": "means of an agent",
    "hacking_watch_runs": "counts", "lesson_checks": "lessons",
    "lesson_embeddings": "numbers made of what lessons say now (store.embeddings.prune)",
    "llm_batch_questions": "ids of questions",
    "path_progress": "numbers", "preference_runs": "counts", "preference_weights": "means of a segment",
    "pull_sources": "settings", "redaction_settings": "settings", "reliability": "means of an agent",
    "segment_counts": "counts",
    "removals": "counts",
    "retention_rules": "settings", "reward_calibration": "means", "reward_cells": "means of a task",
    "reward_feature_weights": "means of an agent", "reward_metrics": "means",
    "reward_segment_means": "means of a segment", "safety_looks": "means of an arm", "schema_migrations": "the schema",
    "signal_yield_runs": "counts", "sources": "column mappings", "store_meta": "counters",
    "transition_counts": "counts",
    "transition_folds": "numbers of states", "user_runs": "counts",
}  # fmt: skip
"""Tables that hold nothing of one person, and what they hold."""

HARMLESS: Final = frozenset({
    "action", "actor", "address", "agent", "agent_version", "agents", "annotator_kind", "answered_by", "api", "arm",
    "arm_limits", "arms", "author", "axis", "base_url", "baseline", "basis", "batch_key", "best_action",
    "best_span_id", "bins", "builtins", "candidate", "candidates", "cause", "checked", "closed_by", "code_version",
    "columns", "comparison", "container", "content_hash", "created", "created_by", "custom", "custom_id",
    "decided_by", "decision_id", "delivery_id", "digest", "direction", "ended_by", "escalate", "estimator",
    "exception", "explained_by", "export_id", "feature", "field", "fingerprint", "format", "from_place", "greedy_arm",
    "guardrail_id", "held_out", "incident_id", "input_file_id", "input_hash", "intervention_id", "job", "keep_id",
    "key", "key_id", "kind", "least_severity", "lesson", "lesson_id", "lesson_ids", "lesson_set_hash", "level",
    "likelihood", "linked_by", "loaded_by", "mapping", "measure", "method", "metric", "metrics", "mode", "model",
    "model_fingerprint", "name", "nonce", "noted_by", "on_violation", "operator", "origin", "other_id", "other_tool",
    "outcome", "page", "parent_span_id", "parents", "patterns", "playbook", "previous_action", "previous_state",
    "project", "prompt_version", "proposal_id", "proposed_by", "purpose", "reason", "reference", "refuse",
    "revoked_by", "role", "rubric", "rule", "rule_id", "run", "same_as", "scale", "schema", "scope", "scopes",
    "secret_hash", "secret_variable", "segment", "segments", "server_id", "server_state", "session_id", "set_by",
    "severity", "sha256", "side", "signal_id", "source", "span_id", "split", "staging_dir", "started_by", "state",
    "state_by", "state_reason", "status", "subject", "subject_id", "system", "target", "task", "task_origin",
    "test_by", "tested", "text_kind", "tool", "trace_id", "training_file_id", "trust", "tuned_model", "tuning_key",
    "unit_kind", "updated_by", "user_id", "user_variable", "validation_file_id", "variable", "verdict", "version",
    "via", "view_id", "watermark", "what", "worst_action", "worst_span_id",
})  # fmt: skip
"""Names of columns that say nothing of a person's by themselves, or ids by which the rows of `ERASED` go."""


_OPERATORS: Final = ("audit_log", "ended_sessions", "forgotten", "operators", "schema_migrations")


def others(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[str, ...]]:
    """Every column of text outside the facts, also of tables that nobody has classified: a net below the rest.

    What is about operators is left out: an operator who is a user too stays one.
    """
    rows = connection.execute(
        """SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns()
        WHERE data_type = 'VARCHAR' AND schema_name = 'main' AND NOT internal
            AND database_name NOT IN ('temp', 'system') GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    return {table: tuple(columns) for table, columns in rows if table not in FACTS and table not in _OPERATORS}


def derived(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """The tables of `ERASED` outside the facts that have a user_id, and those that have a trace_id."""
    found: dict[str, list[str]] = {"user": [], "trace": []}
    rows = connection.execute(
        """SELECT DISTINCT table_name, column_name FROM duckdb_columns() WHERE column_name IN ('user_id', 'trace_id')
            AND schema_name = 'main' AND NOT internal AND database_name NOT IN ('temp', 'system') ORDER BY ALL"""
    ).fetchall()
    for table, column in rows:
        if table in ERASED and table not in FACTS and table not in ("graduation_sources", "learning_opt_outs"):
            found[column.removesuffix("_id")].append(table)
    return found


def begin(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables gone_*, empty. Call inside the transaction that erases."""
    for kind in KINDS:
        of = "BIGINT" if kind == "calls" else "VARCHAR"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE gone_{kind} (id {of})")


def fill(connection: duckdb.DuckDBPyConnection) -> None:
    """Add what goes with that: signals and decisions of gone traces, and questions to the model about them."""
    connection.execute(
        f"""INSERT INTO gone_decisions
        SELECT DISTINCT decision_id FROM traces WHERE {_TRACE} AND decision_id IS NOT NULL
        AND decision_id NOT IN (SELECT decision_id FROM traces WHERE NOT {_TRACE} AND decision_id IS NOT NULL)
        AND decision_id NOT IN (FROM gone_decisions)"""
    )
    for table in ("signals", "superseded_signals"):
        connection.execute(
            f"""INSERT INTO gone_signals SELECT DISTINCT signal_id FROM {table}
            WHERE ({_TRACE} OR {_USER} OR (trace_id IS NULL AND session_id IN (FROM gone_sessions))
                OR annotator_id IN (FROM gone_users)
                OR signal_id IN (SELECT signal_id FROM signal_links WHERE {_TRACE}))
            AND signal_id NOT IN (FROM gone_signals)"""
        )
    connection.execute(
        f"""INSERT INTO gone_calls SELECT call_id FROM llm_calls
        WHERE subject IN (FROM gone_traces) OR subject IN (FROM gone_signals)
        UNION SELECT call_id FROM judge_verdicts WHERE ({_SUBJECT} OR {_TRACE}) AND call_id IS NOT NULL
        UNION SELECT call_id FROM lesson_drafting WHERE call_id IS NOT NULL AND len(list_intersect(
            json_extract_string(chosen, '$[*].trace_id'), (SELECT coalesce(list(id), []) FROM gone_traces))) > 0"""
    )


def expected(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How many rows of each table would go now, the tables without any left out."""
    counts = {
        table: int(connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchall()[0][0])
        for table, where in ERASED.items()
    }
    return {table: count for table, count in counts.items() if count}


def erase(connection: duckdb.DuckDBPyConnection, tables: Sequence[str] | None = None) -> dict[str, int]:
    """Delete what goes from `tables` (None: all); returns how many rows of each, the tables without any left out.

    Rows by whose help others are found (llm_calls, traces) go after those.
    """
    gone = {}
    # Answers are found by rows of other tables, which therefore go later.
    order = sorted(tables if tables is not None else ERASED, key=lambda table: table != "llm_answers")
    for table in order:
        count = int(connection.execute(f"DELETE FROM {table} WHERE {ERASED[table]}").fetchall()[0][0])
        if count:
            gone[table] = count
    return gone


def note_removals(connection: duckdb.DuckDBPyConnection, cause: str, now: object) -> None:
    """Count what is about to go of each batch, in `removals`. Call before `erase`."""
    connection.execute(
        f"""INSERT INTO removals SELECT $now, $cause, batch_id, sum(traces), sum(spans), sum(signals) FROM (
            SELECT batch_id, count(*) AS traces, 0 AS spans, 0 AS signals FROM traces WHERE {_TRACE} GROUP BY batch_id
            UNION ALL SELECT batch_id, 0, count(*), 0 FROM spans WHERE {_TRACE} GROUP BY batch_id
            UNION ALL SELECT batch_id, 0, count(*), 0 FROM superseded_spans WHERE {_TRACE} GROUP BY batch_id
            UNION ALL SELECT batch_id, 0, 0, count(*) FROM signals WHERE {_SIGNAL} GROUP BY batch_id
            UNION ALL SELECT batch_id, 0, 0, count(*) FROM superseded_signals WHERE {_SIGNAL} GROUP BY batch_id)
        GROUP BY batch_id""",
        {"now": now, "cause": cause},
    )
