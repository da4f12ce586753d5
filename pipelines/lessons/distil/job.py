"""The job `distil`: proposes merges and retirements of lessons, never applies them."""

from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from pipelines.jobs import JobResult
from pipelines.lessons import embedding
from pipelines.lessons.distil import distil as distillation
from pipelines.lessons.distil.config import DistilConfig
from pipelines.lessons.distil.proposal import frames
from store import distilling
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["run"]


def run(context: "JobContext") -> JobResult:
    """Propose; `rows` counts the new proposals."""
    config = DistilConfig()
    context.progress(0.0, "reading the library")
    library = distilling.library(context.store, context.clock.now() - timedelta(weeks=config.unused_weeks))
    if library.lessons.is_empty():
        return JobResult(0, "There are no lessons.")
    context.progress(0.2, f"comparing {library.lessons.height:,} lessons")
    embedded = embedding.of_texts(context.store, context.settings, distillation.texts(library))
    found = context.compute(distillation.distil, library, config, embedded.vectors, embedded.reason)
    proposals, members = frames(found.proposals)
    message = _message(found, library.lessons.height)
    new = distilling.publish(
        context.store, proposals, members, lessons=library.lessons.height, data_version=library.data_version,
        code_version=code_version(), message=message,
        parameters={**asdict(config), "method": found.method, "reason": found.reason, "refused": list(found.refused)},
    )  # fmt: skip
    return JobResult(new, f"{new} new proposals. {message}")


def _message(found: distillation.Distilled, lessons: int) -> str:
    counts = Counter((one.kind, one.cause) for one in found.proposals)
    told = ", ".join(f"{count} {kind} ({cause.replace('_', ' ')})" for (kind, cause), count in sorted(counts.items()))
    text = f"{lessons:,} lessons compared by {found.method}: {told or 'nothing to propose'}."
    if found.reason is not None:
        text += f" {found.reason}"
    if found.refused:
        text += f" {len(found.refused)} merges were not proposed, for their check failed: {found.refused[0]}"
    return text
