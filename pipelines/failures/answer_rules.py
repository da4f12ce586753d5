"""Rules that read the answer and the request: claims without a ground, failures that go unmentioned, vague requests."""

import polars as pl

from pipelines.failures.axes import CANDIDATES, EXPLORATION
from pipelines.failures.badness import FailureConfig

__all__ = ["asked_back", "explored", "short_requests", "unmentioned_failures", "unsupported_figures", "vague_requests"]

_SHARED = 0.8  # share of a task's good requests that have a word
_COVERED = 0.6  # a request with less of the shared words than this is vague,
_LEAST_MISSING = 2  # if it lacks at least so many
_MOST_REQUESTS = 200  # good requests of a task that its words are learnt from
_NUMBER = "#"
_SHORT = 0.5  # of the median length
_LEAST_WORDS = 8


def unsupported_figures(answers: pl.DataFrame) -> pl.DataFrame:
    """Ungrounded claim: the answer states numbers or ids that neither the request nor any result contains."""
    found = answers.filter(pl.col("unsupported").list.len() > 0)
    some = pl.col("unsupported").list.head(3).list.join(", ")
    return _of_answer(
        found,
        axis="ungrounded_claim",
        rule="unsupported_figure",
        strength=0.5,
        detail=pl.format("the answer states {}, which no result and no request contains", some),
    )


def unmentioned_failures(traces: pl.DataFrame, calls: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Ungrounded claim: a tool's last call failed, yet the trace ended well and the answer says nothing of it."""
    last = (
        calls.filter(pl.col("kind") != "guardrail")
        .sort("trace_key", "position")
        .group_by("trace_key", "name", maintain_order=True)
        .agg(failed=pl.col("failed").last())
        .filter("failed")
    )
    ended_well = traces.filter(~pl.col("failed").fill_null(False)).select("trace_key")
    silent = answers.filter(pl.col("answered") & ~pl.col("owns_up"))
    found = (
        last.join(ended_well, on="trace_key", how="semi")
        .join(silent.select("trace_key", "span_id"), on="trace_key")
        .sort("trace_key", "name")
    )
    return _of_answer(
        found,
        axis="ungrounded_claim",
        rule="unmentioned_failure",
        strength=0.7,
        detail=pl.format("{} failed and was not tried again; the answer does not say so", "name"),
        subject=pl.col("name"),
    )


def asked_back(calls: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Underspecified request: the agent could only ask back, without having used any tool."""
    acted = calls.select("trace_key").unique()
    found = answers.filter("asks_back").join(acted, on="trace_key", how="anti")
    return _of_answer(
        found,
        axis="underspecified_request",
        rule="asked_back",
        strength=0.5,
        detail=pl.lit("the agent used no tool and answered with a question"),
    )


def vague_requests(traces: pl.DataFrame, requests: pl.DataFrame, config: FailureConfig) -> pl.DataFrame:
    """Underspecified request: it lacks words that nearly all good requests for the same task have.

    Numbers count as one word, whatever they are. Needs `min_task_support` good requests of the task.
    """
    rows = requests.join(traces.select("trace_key", "agent", "task", "bad"), on="trace_key").filter(
        pl.col("task").is_not_null()
    )
    task = ["agent", "task"]
    learnt = rows.filter(~pl.col("bad")).sort("trace_key").filter(pl.int_range(pl.len()).over(task) < _MOST_REQUESTS)
    sizes = learnt.group_by(task).agg(requests=pl.len()).filter(pl.col("requests") >= config.min_task_support)
    words = _words(learnt.join(sizes, on=task)).group_by(*task, "word").agg(having=pl.len())
    shared = words.join(sizes, on=task).filter(pl.col("having") / pl.col("requests") >= _SHARED).select(*task, "word")
    expected = shared.group_by(task).agg(expected=pl.len())
    covered = _words(rows.join(expected.select(task), on=task, how="semi")).join(shared, on=[*task, "word"])
    counted = covered.group_by("trace_key").agg(having=pl.len())
    found = (
        rows.join(expected, on=task)
        .join(counted, on="trace_key", how="left")
        .with_columns(pl.col("having").fill_null(0))
        .filter(
            (pl.col("having") / pl.col("expected") < _COVERED)
            & (pl.col("expected") - pl.col("having") >= _LEAST_MISSING)
        )
    )
    return _of_answer(
        found.with_columns(span_id=pl.lit(None, dtype=pl.String)),
        axis="underspecified_request",
        rule="vague_request",
        strength=0.5,
        detail=pl.format(
            "the request has {} of the {} words that good requests for this task share", "having", "expected"
        ),
    )


def short_requests(traces: pl.DataFrame, requests: pl.DataFrame, config: FailureConfig) -> pl.DataFrame:
    """Underspecified request: it has less than half the words of the agent's median good request.

    Needs `min_support` good requests of the agent, and a median of at least `_LEAST_WORDS` words.
    """
    rows = requests.join(traces.select("trace_key", "agent", "bad"), on="trace_key").with_columns(
        words=pl.col("input").str.count_matches(r"[\p{L}\d]+")
    )
    usual = rows.filter(~pl.col("bad")).group_by("agent").agg(median=pl.col("words").median(), n=pl.len())
    known = usual.filter((pl.col("n") >= config.min_support) & (pl.col("median") >= _LEAST_WORDS))
    found = rows.join(known, on="agent").filter(pl.col("words") < _SHORT * pl.col("median"))
    return _of_answer(
        found.with_columns(span_id=pl.lit(None, dtype=pl.String)),
        axis="underspecified_request",
        rule="short_request",
        strength=0.4,
        detail=pl.format("the request has {} words; half of the good ones have {} or more", "words", "median"),
    )


def explored(traces: pl.DataFrame) -> pl.DataFrame:
    """Deliberate exploration: the decision that chose the arm was made to learn, as its metadata says."""
    return _of_answer(
        traces.filter("explored").with_columns(span_id=pl.lit(None, dtype=pl.String)),
        axis=EXPLORATION,
        rule="explored",
        strength=0.5,
        detail=pl.lit("the arm was chosen to learn about it, not because it was thought best"),
    )


def _words(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per request and distinct word of it, lower case; all numbers are the word `#`."""
    text = pl.col("input").str.to_lowercase()
    words = text.str.replace_all(r"\d+", f" {_NUMBER} ").str.extract_all(rf"\p{{L}}{{2,}}|{_NUMBER}").list.unique()
    return rows.select("trace_key", "agent", "task", word=words).explode("word").filter(pl.col("word").is_not_null())


def _of_answer(
    rows: pl.DataFrame, *, axis: str, rule: str, strength: float, detail: pl.Expr, subject: pl.Expr | None = None
) -> pl.DataFrame:
    return rows.select(
        "trace_key",
        axis=pl.lit(axis),
        rule=pl.lit(rule),
        subject=pl.lit("") if subject is None else subject,
        span_id="span_id",
        position=pl.lit(None, dtype=pl.Int32),
        strength=pl.lit(strength),
        detail=detail,
    ).select(list(CANDIDATES))
