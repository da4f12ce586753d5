"""The job `graduate`: follows fine-tuning jobs, and measures whether trained models still need their lessons."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipelines.jobs import JobResult
from pipelines.lessons.graduate import trial, tuning
from store import fine_tunings, graduation_trials

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["follow", "run"]


def run(context: "JobContext") -> JobResult:
    """Follow and measure; `rows` counts the jobs and trials whose state was looked at. Raises: `JobInterrupted`."""
    return follow(context, environ=os.environ)


def follow(context: "JobContext", *, environ: Mapping[str, str]) -> JobResult:
    """As `run`, with the environment that holds the key from outside."""
    told = _tunings(context, environ)
    open_trials = graduation_trials.running(context.store).to_dicts()
    for number, row in enumerate(open_trials):
        context.progress(0.5 + 0.5 * number / len(open_trials), f"measuring lesson {row['lesson_id']}")
        state = trial.look(context.store, row, context.compute(trial.measured, context.store, row))
        told.append(f"Lesson {row['lesson_id']} with {row['basis']} {row['name']}: {state}.")
    return JobResult(len(told), " ".join(told) or "No fine-tuning job and no trial is open.")


def _tunings(context: "JobContext", environ: Mapping[str, str]) -> list[str]:
    """Follow the fine-tuning jobs; a sentence on each."""
    store = context.store
    if fine_tunings.on_their_way(store).is_empty():
        return []
    # Imported here: the library behind it takes a second to load.
    from pipelines.llm import connect
    from pipelines.llm_tuning import Tunings

    context.progress(0.0, "asking the model's server")
    port = connect(store, context.settings, environ=environ, wait=context.wait_for_model, random=context.random)
    if port is None:
        return ["Fine-tuning waits: no model is configured (TRIMTAB_MODEL)."]
    with port:
        followed = Tunings(
            store, port, lambda row, split: tuning.content(store, row, split), lambda row: tuning.withdrawn(store, row)
        ).follow()
    return [f"Fine-tuning {one.tuning_id} ({one.state}): {one.message or 'the server works on it'}" for one in followed]
