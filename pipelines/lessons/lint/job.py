"""The job `lint-lessons`: reads lessons that lint has not read, and compares them by embeddings where they are to be.

Nobody waits for the model on a page or at the gateway: lint there uses the embeddings that are kept, and what it could
not compare by them is compared here once they are there.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipelines.jobs import JobResult
from pipelines.lessons import embedding
from pipelines.lessons.lint import gather, work
from store import embeddings, meta
from store.embeddings import State

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["run"]

_TEXTS: Final = 1_000  # of one run
_LESSONS: Final = 200


def run(context: "JobContext") -> JobResult:
    """Lint what nobody has, embed what has no embedding and lint anew what was compared without; `rows` counts all."""
    store, settings = context.store, context.settings
    # Whoever proposes has lint read it next; a process may have ended between the two.
    unread = gather.check_unread(store, most=_LESSONS)
    if unread:
        store.write(meta.bump)
    if not settings.embedding_model:
        if embeddings.state(store) is not None:
            store.write(lambda connection: embeddings.note(connection, None))
        none = "No model for embeddings is configured (TRIMTAB_EMBEDDING_MODEL): words are compared."
        return JobResult(unread, f"{unread:,} lessons read first. {none}")
    held = embeddings.state(store)
    if held is None or held.origin != work.origin(settings):
        held = State(work.origin(settings), settings.embedding_model, 0, store.clock.now(), None)
    embedded = 0
    # After a failure lessons may be left to read again, but the model is left alone for a while.
    if work.due(held, store.clock.now()) or not work.unlike(store, held, 1):
        texts = embeddings.missing(store, held.origin, _TEXTS)
        context.progress(0.0, f"embedding {len(texts):,} texts")
        held, embedded = _embedded(context, held, texts)
    lessons = work.unlike(store, held, _LESSONS)
    for number, lesson_id in enumerate(lessons):
        context.progress(number / len(lessons), "comparing lessons")
        gather.check(store, lesson_id)
    if lessons:
        store.write(meta.bump)
    message = f"{embedded:,} texts embedded by {held.model}, {len(lessons):,} lessons compared, {unread:,} read first."
    failed = f" TF-IDF is used in place of embeddings: {held.error}" if held.error else ""
    return JobResult(unread + embedded + len(lessons), message + failed)


def _embedded(context: "JobContext", held: State, texts: list[str]) -> tuple[State, int]:
    """Ask for the vectors of texts, and write down how that went; returns it, and how many there are now."""
    store, now = context.store, context.store.clock.now
    made = embedding.of_texts(store, context.settings, texts)
    left = set(embeddings.missing(store, held.origin, _TEXTS)) if made.problem is not None else set()
    embedded = len(set(texts) - left)
    if made.problem is not None:
        # What a budget cuts short goes on where it was.
        failures = 1 if embedded else held.failures + 1
        held = replace(held, failures=failures, error=made.problem, tried_at=now())
    elif texts:
        held = replace(held, failures=0, error=None, tried_at=now())
    store.write(lambda connection: embeddings.note(connection, held))
    return held, embedded
