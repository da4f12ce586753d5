"""What is known of a trace at its end, and of the steps that led there: the material of the trace-level reward model.

Only what happened until the trace ended counts: steps that began later and steps of evaluators are left out, because
they can hold the verdict that is to be predicted. Signals are not read here at all.

The steps of a trace become counted tokens: `step:x` (a step of that name, with `!` where it failed), `pair:x>y` (y came
right after x; `^` and `$` are beginning and end), `same:x` (a call with the same arguments as an earlier one of the
trace), `form:x(...)` (arguments in which text, dates and numbers are replaced by T, D and N).
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from store.connection import Store
from store.frames import UTC_TIME, Reader, declare
from store.learning import learnt_from

FACTS = declare(
    {
        "trace_id": pl.String, "agent": pl.String, "agent_version": pl.String, "arm": pl.String, "model": pl.String,
        "task": pl.String, "user_id": pl.String, "session_id": pl.String, "status": pl.String,
        "started_at": UTC_TIME, "ended_at": UTC_TIME, "seconds": pl.Float64, "input_tokens": pl.Float64,
        "output_tokens": pl.Float64, "cost_usd": pl.Float64, "span_count": pl.Float64, "error_count": pl.Float64,
        "tool_count": pl.Float64, "llm_count": pl.Float64, "retriever_count": pl.Float64,
        "guardrail_count": pl.Float64, "tool_errors": pl.Float64, "tool_seconds": pl.Float64,
        "tool_names": pl.Float64, "input": pl.String, "output": pl.String,
        "segment_by_rule": pl.String,  # of the user (`store.segments`); no feature
    }
)  # fmt: skip
TOKENS = pl.Schema({"row": pl.UInt32(), "token": pl.UInt16(), "n": pl.UInt8()})

_SAMPLED_TRACES = 40_000
_SAMPLED_METADATA = 4_000
_MOST_TOKENS = 300
_LEAST_SHARE = 0.002  # of the sampled traces that have a token
_LONGEST_FORM = 160
_MOST_LEVELS = 30
_LARGEST = 1e100
_UNNAMEABLE = re.compile(r'["\\\x00-\x1f]')  # characters of a key that a path into JSON does not take

_DURING = "(s.started_at IS NULL OR t.ended_at IS NULL OR s.started_at <= t.ended_at) AND s.kind <> 'evaluator'"


@dataclass(frozen=True)
class Selection:
    """Which tokens and metadata keys are read: chosen once, when a model is fitted, and stored with it.

    `numbers` and `categories` are paths into the traces' metadata such as `$."segment"`.
    """

    tokens: tuple[str, ...]
    numbers: tuple[str, ...]
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """One row a trace in order of `trace_id` (columns FACTS, then one a metadata path), its tokens (TOKENS), and what
    was chosen; `row` of a token is the trace's row. `publication` is the last one whose facts are in it.
    """

    facts: pl.DataFrame
    tokens: pl.DataFrame
    selection: Selection
    publication: int
    data_version: int


def gather(store: Store, *, selection: Selection | None = None, since: int | None = None) -> Material:
    """Read the material of all traces, or of those that publications after `since` have changed.

    A trace is changed when it was rolled up again or a signal about it came. Without a `selection` one is made from a
    sample of the traces.
    """
    with store.read() as reader:
        version, publication = (_meta(reader, key) for key in ("data_version", "publication"))
        chosen = _changed(since)
        selection = selection or _select(reader)
        paths = [*selection.numbers, *selection.categories]
        # The engine sees places, not names: a key of someone's metadata is no name of a column.
        places = [f"metadata_{at}" for at in range(len(paths))]
        facts = reader.frame(
            f"""WITH {chosen}, work AS ({_WORK})
            SELECT {_FACTS} {_metadata(selection)}
            FROM wanted AS w JOIN traces AS t USING (trace_id) LEFT JOIN work USING (trace_id)
                LEFT JOIN user_segments AS g USING (user_id)""",
            declare(
                {
                    **FACTS,
                    **dict.fromkeys(places[: len(selection.numbers)], pl.Float64),
                    **dict.fromkeys(places[len(selection.numbers) :], pl.String),
                }
            ),
            {"paths": paths} if paths else None,
            order=("trace_id",),
        ).rename(dict(zip(places, paths, strict=True)))
        tokens = reader.frame(
            f"""WITH {chosen}, numbered AS (
                SELECT trace_id, (row_number() OVER (ORDER BY trace_id) - 1)::UINTEGER AS row FROM wanted
            ), listed AS (
                SELECT unnest($tokens::VARCHAR[]) AS token, unnest(range(len($tokens::VARCHAR[])))::USMALLINT AS at
            ), {_steps("wanted")}
            SELECT n.row, l.at AS token, least(sum(c.n), 255)::UTINYINT AS n
            FROM counted AS c JOIN listed AS l USING (token) JOIN numbered AS n USING (trace_id)
            GROUP BY ALL ORDER BY n.row, l.at""",
            TOKENS,
            {"tokens": list(selection.tokens)},
        )  # fmt: skip
        return Material(facts, tokens, selection, publication, version)


def _meta(reader: Reader, key: str) -> int:
    value = reader.value("SELECT value FROM store_meta WHERE key = $key", {"key": key})
    return int(value) if isinstance(value, int) else 0


def _changed(since: int | None) -> str:
    learnt = learnt_from("t.user_id")
    if since is None:
        return f"wanted AS (SELECT trace_id FROM traces AS t WHERE {learnt})"
    return f"""wanted AS (
        SELECT trace_id FROM traces AS t WHERE publication > {since:d} AND {learnt}
        UNION
        SELECT t.trace_id FROM traces AS t SEMI JOIN (
            SELECT coalesce(s.trace_id, l.trace_id) AS trace_id
            FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id) WHERE s.publication > {since:d}
        ) USING (trace_id) WHERE {learnt})"""


_WORK = f"""
    SELECT s.trace_id,
        count(*) FILTER (s.kind = 'llm') AS llm_count, count(*) FILTER (s.kind = 'retriever') AS retriever_count,
        count(*) FILTER (s.kind = 'guardrail') AS guardrail_count,
        count(*) FILTER (s.kind = 'tool' AND s.status = 'error') AS tool_errors,
        sum(epoch_us(s.ended_at) - epoch_us(s.started_at)) FILTER (s.kind = 'tool') / 1e6 AS tool_seconds,
        count(DISTINCT s.name) FILTER (s.kind = 'tool') AS tool_names
    FROM spans AS s JOIN wanted USING (trace_id) JOIN traces AS t USING (trace_id)
    WHERE {_DURING} GROUP BY s.trace_id"""

_FACTS = """t.trace_id, t.agent, t.agent_version, t.arm, t.model, t.task, t.user_id, t.session_id, t.status,
    t.started_at, t.ended_at, (epoch_us(t.ended_at) - epoch_us(t.started_at)) / 1e6 AS seconds,
    t.input_tokens, t.output_tokens, t.cost_usd, t.span_count, t.error_count, t.tool_count, llm_count,
    retriever_count, guardrail_count, tool_errors, tool_seconds, tool_names, t.input, t.output,
    g.segment AS segment_by_rule"""


def _metadata(selection: Selection) -> str:
    """Columns of the metadata paths, one parse of the text for all of them."""
    if not selection.numbers and not selection.categories:
        return ""
    parsed = "TRY(json_extract_string(t.metadata, $paths::VARCHAR[]))"
    numbers = [f"TRY_CAST({parsed}[{at}] AS DOUBLE)" for at in range(1, len(selection.numbers) + 1)]
    texts = [f"{parsed}[{at + len(selection.numbers)}]" for at in range(1, len(selection.categories) + 1)]
    return "".join(f", {text} AS metadata_{at}" for at, text in enumerate([*numbers, *texts]))


def _steps(wanted: str) -> str:
    """Common table expressions that end in `counted` (trace_id, token, n) for the traces of `wanted`."""
    return f"""
    steps AS (
        SELECT s.trace_id, s.span_id, s.started_at, s.ordinal, s.kind = 'tool' AS tool,
            coalesce(s.name, s.kind) AS plain,
            coalesce(s.name, s.kind) || CASE WHEN s.status = 'error' THEN '!' ELSE '' END AS name,
            CASE WHEN s.kind = 'tool' THEN hash(s.input) END AS arguments,
            CASE WHEN s.kind = 'tool' AND length(s.input) <= {2 * _LONGEST_FORM} THEN {_FORM} END AS form
        FROM spans AS s JOIN {wanted} USING (trace_id) JOIN traces AS t USING (trace_id)
        WHERE s.kind IN ('tool', 'retriever', 'guardrail') AND {_DURING}
    ), ordered AS (
        SELECT trace_id, tool, plain, name, form,
            coalesce(lag(name) OVER in_time, '^') AS before, lead(name) OVER in_time AS after,
            arguments IS NOT NULL AND row_number() OVER (
                PARTITION BY trace_id, plain, arguments ORDER BY started_at NULLS LAST, ordinal NULLS LAST, span_id
            ) > 1 AS again
        FROM steps
        WINDOW in_time AS (PARTITION BY trace_id ORDER BY started_at NULLS LAST, ordinal NULLS LAST, span_id)
    ), counted AS (
        SELECT trace_id, token, count(*) AS n FROM (
            SELECT trace_id, unnest(list_filter([
                'step:' || name, 'pair:' || before || '>' || name,
                CASE WHEN after IS NULL THEN 'pair:' || name || '>$' END,
                CASE WHEN again THEN 'same:' || plain END,
                CASE WHEN length(form) <= {_LONGEST_FORM} THEN 'form:' || plain || form END
            ], lambda token: token IS NOT NULL)) AS token FROM ordered
        ) GROUP BY ALL
    )"""


# Values of a JSON text by what they are: the shape of arguments, in which every date, text and number looks the same.
_FORM = r"""regexp_replace(regexp_replace(regexp_replace(s.input,
    ':\s*"\d{4}-\d{2}-\d{2}[^"]*"', ':D', 'g'), ':\s*"[^"]*"', ':T', 'g'), ':\s*-?\d+(\.\d+)?', ':N', 'g')"""


def _select(reader: Reader) -> Selection:
    count = reader.value("SELECT count(*) FROM traces")
    traces = count if isinstance(count, int) else 0
    every = max(1, traces // _SAMPLED_TRACES)
    sampled = max(1, traces // every)
    tokens = reader.frame(
        f"""WITH wanted AS (SELECT trace_id FROM traces WHERE hash(trace_id) % {every:d} = 0), {_steps("wanted")}
        SELECT token, count(*) AS traces FROM counted GROUP BY token
        HAVING count(*) >= $least AND count(*) < $most ORDER BY traces DESC, token LIMIT {_MOST_TOKENS}""",
        pl.Schema({"token": pl.String(), "traces": pl.Int64()}),
        {"least": max(5, int(_LEAST_SHARE * sampled)), "most": 0.999 * sampled},
    )
    texts = reader.frame(
        f"""SELECT metadata FROM traces WHERE metadata IS NOT NULL
        ORDER BY hash(trace_id) LIMIT {_SAMPLED_METADATA}""",
        pl.Schema({"metadata": pl.String()}),
    )
    numbers, categories = _metadata_paths(texts["metadata"].to_list())
    return Selection(tuple(tokens["token"]), numbers, categories)


def _metadata_paths(texts: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths to the numbers and to the texts of few values that at least one in twenty of these JSON objects has."""
    seen: dict[str, Counter[Any]] = {}
    for text in texts:
        for path, value in _leaves(text):
            seen.setdefault(path, Counter())[value] += 1
    numbers, categories = [], []
    for path, values in sorted(seen.items()):
        if sum(values.values()) < max(5, len(texts) // 20) or len(values) < 2:
            continue
        if all(isinstance(value, float) for value in values):
            numbers.append(path)
        elif len(values) <= _MOST_LEVELS and not any(isinstance(value, float) for value in values):
            categories.append(path)
    return tuple(numbers[:60]), tuple(categories[:30])


def _leaves(text: str) -> list[tuple[str, str | float]]:
    """Values of a JSON object and of the objects in it, numbers as floats, with their paths.

    Left out are keys that a path cannot name, and numbers that a column of floating numbers cannot hold.
    """
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(whole, dict):
        return []
    leaves: list[tuple[str, str | float]] = []
    for key, value in whole.items():
        inner: Mapping[str, Any] = value if isinstance(value, dict) else {"": value}
        for name, leaf in inner.items():
            path = f'$."{key}"' + (f'."{name}"' if isinstance(value, dict) else "")
            if _UNNAMEABLE.search(key) or _UNNAMEABLE.search(name):
                continue
            if isinstance(leaf, bool):
                leaves.append((path, str(leaf).lower()))
            elif isinstance(leaf, int | float):
                if abs(leaf) <= _LARGEST:
                    leaves.append((path, float(leaf)))
            elif isinstance(leaf, str):
                leaves.append((path, leaf))
    return leaves
