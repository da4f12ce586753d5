"""Planted causes of failure occur at their rates, cost what they should, and show in the steps."""

import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy.stats import kstest
from sklearn.feature_extraction.text import TfidfVectorizer

from pipelines.simulate import Deployment

AssertBinomial = Callable[[float, pl.Series], None]
SIGMAS = 4.0


def repeat(probability: float, count: int) -> pl.Series:
    return pl.Series([probability] * count)


def test_planted_causes_occur_at_their_rates(deployment: Deployment, assert_binomial: AssertBinomial) -> None:
    arms = {
        (agent["name"], arm["name"]): arm["cause_factors"]
        for agent in deployment.truth["agents"]
        for arm in agent["arms"]
    }
    for cause in deployment.truth["causes"]:
        eligible = deployment.truth_traces.filter(
            (pl.col("agent") == cause["agent"]) & pl.col("task_kind").is_in(cause["task_kinds"])
        )
        rates = [
            cause["rate"] * arms[agent, arm].get(cause["key"], 1.0)
            for agent, arm in eligible.select("agent", "arm").iter_rows()
        ]
        made = eligible.filter(pl.col("cause") == cause["key"])
        assert (made.height, eligible.height) == (cause["traces"], cause["eligible_traces"])
        assert_binomial(made.height, pl.Series(rates))


def test_planted_causes_lower_quality_by_the_stated_amount(deployment: Deployment) -> None:
    truth = deployment.truth_traces
    for cause in deployment.truth["causes"]:
        made = truth.filter(pl.col("cause") == cause["key"])
        quality, without = made["quality"].to_numpy(), made["quality_without_cause"].to_numpy()
        effect = np.log(quality / (1 - quality)) - np.log(without / (1 - without))
        assert np.allclose(effect, cause["effect"])
        assert cause["mean_quality_drop"] == pytest.approx(float((without - quality).mean()))
        assert cause["payoff"] == pytest.approx(cause["mean_quality_drop"] * made.height / cause["eligible_traces"])
        # What somebody comparing traces with and without the mistake, within arm and task, would see.
        others = truth.filter(pl.col("cause").is_null() & ~pl.col("environment_error"))
        clean = made.filter(~pl.col("environment_error"))
        keys = ["agent", "arm", "task"]
        paired = clean.join(others.group_by(keys).agg(usual=pl.col("quality").mean()), on=keys)
        seen = paired["usual"] - paired["quality"]
        assert paired.height > 30
        error = seen.std() / math.sqrt(paired.height)  # type: ignore[operator]
        assert abs(seen.mean() - cause["mean_quality_drop"]) < SIGMAS * error + 0.02  # type: ignore[operator]
    untouched = truth.filter(pl.col("cause").is_null())
    assert (untouched["quality"] == untouched["quality_without_cause"]).all()


def test_quality_is_the_sum_of_the_stated_effects(deployment: Deployment) -> None:
    """Rebuilt from truth.json alone, the logit of quality leaves normal noise, whatever befell the trace."""
    truth, constants = deployment.truth, deployment.truth["measurement"]["quality"]
    users = {user["user_id"]: user for user in truth["users"]}
    agents = {agent["name"]: agent["base"] for agent in truth["agents"]}
    arms = {(agent["name"], arm["name"]): arm["effect"] for agent in truth["agents"] for arm in agent["arms"]}
    tasks = {(task["agent"], task["key"]): task["difficulty"] for task in truth["tasks"]}
    causes = {cause["key"]: cause["effect"] for cause in truth["causes"]}
    drift = {one["user_id"]: one["kind"] for one in truth["drift"]}
    residuals = []
    for row in deployment.truth_traces.iter_rows(named=True):
        user = users[row["user_id"]]
        weights = user["weights_stated_after" if row["drifted"] else "weights_stated"]
        shifted = row["drifted"] and drift[row["user_id"]] == "satisfaction"
        effects = [
            agents[row["agent"]],
            arms[row["agent"], row["arm"]],
            tasks[row["agent"], row["task"]],
            causes.get(row["cause"], 0.0),
            sum(weight * row[f"feature_{name}"] for name, weight in zip(truth["features"], weights, strict=True)),
            truth["model_change"]["effect"] * row["model_changed"],
            constants["environment"]["effect"] * row["environment_error"],
            constants["failed"]["effect"] * row["failed"],
            constants["underspecified"]["effect"] * row["underspecified"],
            user["tolerance"] * row["explored"],
            constants["satisfaction_drift"] * shifted,
        ]
        residuals.append(row["theta"] - sum(effects))
    noise_sd = constants["noise_sd"]
    assert kstest(residuals, "norm", args=(0.0, noise_sd)).pvalue > 1e-3
    frame = deployment.truth_traces.with_columns(residual=pl.Series(residuals))
    for column in (
        "cause",
        "environment_error",
        "failed",
        "underspecified",
        "explored",
        "model_changed",
        "drifted",
        "arm",
    ):
        for _, group in frame.group_by(column):
            assert abs(group["residual"].mean()) < SIGMAS * noise_sd / math.sqrt(group.height)  # type: ignore[operator]


def planted(deployment: Deployment, key: str) -> set[str]:
    return set(deployment.truth_traces.filter(pl.col("cause") == key)["trace_id"])


def test_planted_causes_show_as_patterns_of_steps(deployment: Deployment) -> None:
    """Each pattern is found from the spans alone, and is there exactly where the cause was planted."""
    spans = deployment.spans.join(
        deployment.truth_traces.select("trace_id", "task_kind", "failed", of="agent"), on="trace_id"
    ).filter(~pl.col("failed"))
    good = pl.col("status") == "ok"

    def with_step(name: str, condition: pl.Expr = pl.lit(True)) -> set[str]:  # noqa: B008
        return set(spans.filter((pl.col("name") == name) & condition)["trace_id"])

    def of_kind(kind: str) -> set[str]:
        return set(spans.filter(pl.col("task_kind") == kind)["trace_id"])

    def repeated(name: str) -> set[str]:
        counts = spans.filter((pl.col("name") == name) & good).group_by("trace_id", "input").len()
        return set(counts.filter(pl.col("len") > 1)["trace_id"])

    def before(first: str, second: str) -> set[str]:
        at = (
            spans.filter(pl.col("name").is_in([first, second]))
            .group_by("trace_id")
            .agg(
                first=pl.col("ordinal").filter(pl.col("name") == first).min(),
                second=pl.col("ordinal").filter(pl.col("name") == second).min(),
            )
        )
        return set(at.filter(pl.col("first") < pl.col("second"))["trace_id"])

    found = {
        "repeated_search": repeated("search_catalog"),
        "price_as_text": with_step("search_catalog", pl.col("input").str.contains('"max_price": "', literal=True)),
        "skipped_stock_check": of_kind("recommendation") - with_step("check_stock"),
        "book_without_availability": with_step("book_trip") - before("check_availability", "book_trip"),
        "date_as_text": with_step("search_trips", ~pl.col("input").str.contains(r'"date": "\d{4}-\d\d-\d\d"')),
        "ignored_tool_error": with_step("book_trip", ~good),
        "refund_without_identity": with_step("issue_refund") - before("verify_identity", "issue_refund"),
        "repeated_lookup": repeated("search_articles"),
        "answer_without_article": of_kind("policy") - with_step("search_articles"),
        "articles_for_order": of_kind("order") & with_step("search_articles"),
    }
    failed = set(deployment.truth_traces.filter(pl.col("failed"))["trace_id"])
    assert set(found) == {cause["key"] for cause in deployment.truth["causes"]}
    for key, traces in found.items():
        assert traces == planted(deployment, key) - failed, key


def test_the_mistaken_step_is_named(deployment: Deployment) -> None:
    causes = {cause["key"]: cause["pattern"] for cause in deployment.truth["causes"]}
    truth = deployment.truth_traces
    assert (truth["cause"].is_null() == truth["cause_span_id"].is_null()).all()
    steps = truth.filter(pl.col("cause").is_not_null()).join(
        deployment.spans.select("trace_id", "span_id", "name", "kind"),
        left_on=["trace_id", "cause_span_id"],
        right_on=["trace_id", "span_id"],
    )
    assert steps.height == truth["cause"].count()
    for row in steps.iter_rows(named=True):
        pattern = causes[row["cause"]]
        expected = {"missing": "chat", "error_then_no_retry": "chat", "missing_before": pattern.get("before")}
        assert row["name"].startswith(expected.get(pattern["type"], pattern["tool"]))


def test_failures_are_labelled_by_whose_fault_they_are(deployment: Deployment) -> None:
    truth = deployment.truth_traces
    axes = {cause["key"]: cause["failure"] for cause in deployment.truth["causes"]}
    made = truth.filter(pl.col("cause").is_not_null())
    assert (made["failure"] == made["cause"].replace_strict(axes)).all()
    assert set(truth["failure"].drop_nulls()) == set(axes.values()) | {
        "environment_error",
        "underspecified_request",
        "deliberate_exploration",
    }
    assert truth.filter(pl.col("failed"))["environment_error"].all()
    errors = deployment.traces.filter(pl.col("status") == "error")
    assert set(errors["trace_id"]) == set(truth.filter(pl.col("failed"))["trace_id"])


def test_decoys_change_nothing(deployment: Deployment, assert_binomial: AssertBinomial) -> None:
    for decoy in deployment.truth["decoys"]:
        own = deployment.truth_traces.filter((pl.col("agent") == decoy["agent"]) & ~pl.col("failed"))
        having = set(deployment.spans.filter(pl.col("name") == decoy["tool"])["trace_id"])
        has = own["trace_id"].is_in(list(having))
        assert_binomial(has.sum(), repeat(decoy["rate"], own.height))
        quality = own["quality"]
        groups = quality.filter(has), quality.filter(~has)
        error = math.sqrt(sum(group.var() / len(group) for group in groups))  # type: ignore[operator]
        assert abs(groups[0].mean() - groups[1].mean()) < SIGMAS * error  # type: ignore[operator]


def test_requests_of_one_task_read_alike(deployment: Deployment) -> None:
    """The support desk's hidden tasks can be found from the words: nearest neighbours share the task."""
    support = deployment.traces.join(deployment.truth_traces.select("trace_id", true="task"), on="trace_id").filter(
        pl.col("agent") == "support-desk"
    )
    head = support.head(1_000).unique("input", maintain_order=True)
    vectors = TfidfVectorizer(
        sublinear_tf=True, stop_words="english", token_pattern=r"(?u)\b[a-z]{3,}\b"
    ).fit_transform(head["input"])
    similarity = (vectors @ vectors.T).toarray()
    np.fill_diagonal(similarity, -1.0)
    tasks = head["true"].to_numpy()
    assert (tasks == tasks[similarity.argmax(axis=1)]).mean() > 0.9
    assert head.height > 300
    assert len(set(tasks)) == len(
        {task["key"] for task in deployment.truth["tasks"] if task["agent"] == "support-desk"}
    )
