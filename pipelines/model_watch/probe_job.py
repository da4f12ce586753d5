"""The job `model-probes`: asks the configured model the same prompts again, and compares what it answers.

Off until an operator switches probes on. The first run since a model was anchored is the baseline. A run is opened with
its plan, every answer is kept under the run and its number, and a run that was cut short goes on at what is missing:
whatever ends the process, no sample is asked for twice that was answered.
"""

import json
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from pipelines.jobs import JobResult
from pipelines.model_watch import probe_cost
from pipelines.model_watch.announcing import announce
from pipelines.model_watch.comparing import Compared, compare
from store import model_anchors, model_figures, model_probe_runs, model_probes
from store.connection import Store
from store.model_probe_runs import Planned, Target
from store.model_probes import PURPOSE, ProbeSettings
from store.settings import Settings

if TYPE_CHECKING:
    from pipelines.jobs import JobContext
    from pipelines.llm import ModelPort

__all__ = ["has_work", "probe", "run"]

_GIVEN_UP: Final = timedelta(days=7)
"""Answers that took longer than this are no sample of one model any more."""


def has_work(store: Store, settings: Settings) -> bool:
    """Whether there is a model, probes are on, and a run is open or due."""
    if not settings.model:
        return False
    wanted = model_probes.settings(store)
    if not wanted.switched_on:
        return False
    held = model_probe_runs.latest(store, _target(settings))
    if held is None or held["state"] == "asking":
        return True
    anchored = model_anchors.latest(store).get(settings.model)
    due = held["started_at"] + timedelta(hours=wanted.every_hours) <= store.clock.now()
    return due or (anchored is not None and anchored > held["started_at"])


def run(context: "JobContext") -> JobResult:
    """Ask what is due and compare; `rows` counts the new answers. Raises: `ModelUnavailable`; `JobInterrupted`."""
    return probe(context, environ=os.environ)


def probe(context: "JobContext", *, environ: Mapping[str, str]) -> JobResult:
    """As `run`, with the environment that holds the key from outside."""
    # Imported here: the library behind it takes a second to load, and most runs of most stores have no model.
    from pipelines.llm import connect

    wanted = model_probes.settings(context.store)
    if not wanted.switched_on:
        return JobResult(0, "Probes are switched off.")
    port = connect(context.store, context.settings, environ=environ, wait=context.wait_for_model, random=context.random)
    if port is None:
        return JobResult(0, "No model is configured (TRIMTAB_MODEL).")
    with port:
        target = _target(context.settings)
        opened = _opened(context, port, target, wanted)
        if isinstance(opened, str):
            return JobResult(0, opened)
        answered, stopped = _ask(context, port, opened, wanted)
    if stopped is not None:
        return JobResult(answered, f"{answered:,} answers. {stopped}")
    said = _compare(context, opened, target)
    return JobResult(answered, f"{answered:,} answers for ${_cost(context.store, opened):.4f}. {said}")


def _target(settings: Settings) -> Target:
    return Target(settings.model, settings.model_base_url.rstrip("/"), settings.model_api)


def _opened(context: "JobContext", port: "ModelPort", target: Target, wanted: ProbeSettings) -> dict[str, Any] | str:
    """The run to go on with, a new one if none is open; in words why there is none."""
    store = context.store
    anchored = model_anchors.latest(store).get(target.model)
    held = model_probe_runs.open_run(store)
    if held is not None:
        if (held["model"], held["address"], held["api"]) != (target.model, target.address, target.api):
            model_probe_runs.stop(store, held["run_no"], "The model is now another one, or is asked elsewhere.")
        elif anchored is not None and anchored > held["started_at"]:
            model_probe_runs.stop(store, held["run_no"], "The model was anchored since it began.")
        elif store.clock.now() - held["started_at"] > _GIVEN_UP:
            model_probe_runs.stop(store, held["run_no"], f"It was not answered within {_GIVEN_UP.days} days.")
        else:
            return held
    baseline = model_probe_runs.since(store, target, anchored).is_empty()
    plan = probe_cost.planned(store, wanted, baseline=baseline)
    cost = probe_cost.estimate(port.setup, plan)
    if cost.likely.usd > wanted.daily_usd:
        return (
            f"Nothing was asked: {cost.samples:,} samples would cost about ${cost.likely.usd:.4f}, and probes may "
            f"cost ${wanted.daily_usd:.4f} a day. Raise that, or ask for fewer samples."
        )
    model_probe_runs.begin(store, target, plan, baseline=baseline, likely_usd=cost.likely.usd, most_usd=cost.most.usd)
    opened = model_probe_runs.open_run(store)
    assert opened is not None
    return opened


def _ask(
    context: "JobContext", port: "ModelPort", opened: Mapping[str, Any], wanted: ProbeSettings
) -> tuple[int, str | None]:
    """Ask for the samples that are missing; how many came, and why it stopped before the end."""
    from pipelines import llm_samples
    from pipelines.llm import BudgetExceeded, ModelRejected

    store, run_no = context.store, int(opened["run_no"])
    held = model_probe_runs.samples(store, [run_no])
    have = set(held.select("probe_id", "sample_no").iter_rows())
    plan = model_probe_runs.plan(opened)
    # Sample by sample through all prompts, so that each prompt is asked over the whole time.
    missing = [
        (each, number)
        for number in range(max((each.samples for each in plan), default=0))
        for each in plan
        if number < each.samples and (each.probe_id, number) not in have
    ]
    # A server that gave none once gives none; one answer without them is enough of each run.
    asked = held.filter(pl.col("probe_id").is_in([each.probe_id for each in plan if each.kind == "logprob"]))
    listed, answered = asked["log_probabilities"].null_count() == 0, 0
    for done, (each, number) in enumerate(missing):
        if each.kind == "logprob" and not listed:
            continue
        context.progress(done / len(missing), "asking probes")
        most = llm_samples.most(port.setup, each.prompt, each.output_tokens)
        spent = model_probes.spent_today(store)
        if spent + most.usd > wanted.daily_usd + 1e-9:
            why = f"Probes have cost ${spent:.4f} today and may cost ${wanted.daily_usd:.4f}; it goes on tomorrow."
            model_probe_runs.note(store, run_no, why)
            return answered, why
        try:
            sample = llm_samples.draw(
                store, port, PURPOSE, each.prompt, key=f"{run_no}/{each.probe_id}/{number}",
                subject=f"{run_no}/{each.probe_id}/{number}", output_tokens=each.output_tokens,
                log_probabilities=each.kind == "logprob",
            )  # fmt: skip
        except BudgetExceeded as error:
            model_probe_runs.note(store, run_no, str(error))
            return answered, str(error)
        except ModelRejected as error:
            if each.kind == "logprob":
                listed = False
                continue
            model_probe_runs.stop(store, run_no, str(error))
            return answered, str(error)
        listed = listed and (each.kind != "logprob" or sample.log_probabilities is not None)
        model_probe_runs.keep_sample(store, _row(run_no, each, number, sample))
        answered += 1
    return answered, None


def _row(run_no: int, each: Planned, number: int, sample: Any) -> dict[str, Any]:
    listed = sample.log_probabilities
    return {
        "run_no": run_no, "probe_id": each.probe_id, "sample_no": number, "call_id": sample.call_id,
        "answer": sample.text, "log_probabilities": None if listed is None else json.dumps(listed),
        "fingerprint": sample.fingerprint, "served_by": sample.served_by, "answered_at": sample.answered_at,
    }  # fmt: skip


def _compare(context: "JobContext", opened: Mapping[str, Any], target: Target) -> str:
    """Compare an answered run with the baseline and close it; what came of it, in words."""
    store, run_no = context.store, int(opened["run_no"])
    context.progress(0.99, "comparing answers")
    earlier = model_probe_runs.since(store, target, model_anchors.latest(store).get(target.model))
    if earlier.is_empty():
        said = "They are the baseline that later runs are compared with."
        model_probe_runs.close(store, run_no, said, {}, pl.DataFrame(schema=model_figures.FOUND), announce=_quiet)
        return said
    kinds = {each.probe_id: each.kind for each in model_probe_runs.plan(opened)}
    after = _known(model_probe_runs.samples(store, [run_no]), kinds)
    before = _baseline(_known(model_probe_runs.samples(store, earlier["run_no"].to_list()), kinds))
    compared: Compared = context.compute(
        compare, target.model, before, after, look=earlier.filter(~pl.col("baseline")).height + 1,
        began=opened["started_at"], flagged_since=_flagged_since(store, target.model), random=context.random,
    )  # fmt: skip
    flagged = compared.found.filter("flagged")
    n = f"{after.height:,} answers beside {before.height:,} of the baseline"
    least = min(compared.found["p_value"].to_list(), default=1.0)
    said = f"No change is seen: least p-value {least:.2g}, all comparisons so far allowed for, {n}."
    if compared.found.is_empty():
        said = "No prompt has two answers now and two in the baseline."
    elif len(flagged):
        said = f"The model seems to have changed: {', '.join(flagged['metric'].to_list())} (p {least:.2g}, {n})."
    model_probe_runs.close(store, run_no, said, compared.results, compared.found, announce=announce(store.clock.now))
    return said


def _known(samples: pl.DataFrame, kinds: Mapping[str, str]) -> pl.DataFrame:
    """The answers to prompts of this plan, with their kind."""
    return samples.filter(pl.col("probe_id").is_in(list(kinds))).with_columns(
        kind=pl.col("probe_id").replace_strict(kinds, return_dtype=pl.String)
    )


def _baseline(samples: pl.DataFrame) -> pl.DataFrame:
    """Of each prompt the answers of the first run that asked it: a prompt may be newer than the baseline."""
    return samples.filter(pl.col("run_no") == pl.col("run_no").min().over("probe_id"))


def _flagged_since(store: Store, model: str) -> dict[str, datetime]:
    current = model_figures.changes(store, model=model, kind="active", flagged_only=True, current_only=True)
    return {row["metric"]: row["changed_at"] for row in current.to_dicts()}


def _cost(store: Store, opened: Mapping[str, Any]) -> float:
    rows = model_probe_runs.runs(store).filter(pl.col("run_no") == opened["run_no"])
    return float(rows["usd"].item()) if len(rows) else 0.0


def _quiet(connection: object, fresh: pl.DataFrame) -> None:
    """A baseline changes nothing."""
