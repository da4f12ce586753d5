"""Choosing lessons: requests of several lengths against a large library, in a process of its own.

A library has words as rare as in English (Zipf), half of its lessons for all tasks and half for one of forty, a third
worded by ourselves and not judged by words, half of them with a measured payoff.
"""

import gc
import pickle
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.measure import alone
from pipelines.lessons.serving.choose import Chooser, Request
from store.lesson_sets import LessonSet, ServedLesson

__all__ = ["ChoiceFigures", "library", "measure", "requests"]

TASKS: Final = 40
REQUEST_WORDS: Final = (20, 200, 1_200)
_NOW: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_TRUSTS: Final = ("system", "model", "operator")


@dataclass(frozen=True)
class ChoiceFigures:
    """Of one library: seconds to prepare it, MB that it takes, bytes of its pickle, and by words of the request the
    seconds of each choice, on the wall and of the processor, and the mean number of lessons chosen."""

    lessons: int
    compile_seconds: float
    memory_mb: float
    pickle_mb: float
    wall: dict[int, list[float]]
    processor: dict[int, list[float]]
    chosen: dict[int, float]


def measure(lessons: int, count: int) -> ChoiceFigures:
    """`count` choices of each length of request from a library of so many lessons."""
    found: dict[str, Any] = alone(_measured, lessons, count).value
    by_words = {name: {int(words): each for words, each in found.pop(name).items()} for name in
                ("wall", "processor", "chosen")}  # fmt: skip
    return ChoiceFigures(lessons=lessons, **found, **by_words)


def library(count: int, random: np.random.Generator) -> LessonSet:
    """A library of so many lessons."""
    lessons = tuple(
        ServedLesson(
            lesson_id=f"l{place:05d}", version=1, state="canary" if place % 3 else "active", agent="agent",
            task=f"task-{place % TASKS}" if place % 2 else None, segment=None, user_id=None, title=_text(random, 6),
            when_text=_text(random, 12), when_not=None, do_text=_text(random, 30), trust=_TRUSTS[place % 3],
            own_condition=place % 3 == 0,
            payoff=float(random.normal(0.02, 0.04)) if place % 4 < 2 else None, payoff_sd=0.02, payoff_n=500,
            holdout=0.2 if place % 3 else 0.1, expires_at=None,
        )
        for place in range(count)
    )  # fmt: skip
    return LessonSet("agent", 1, 2_000, 0.02, lessons)


def requests(words: int, count: int, random: np.random.Generator) -> list[Request]:
    """So many requests of so many words, each of a session of its own."""
    return [
        Request(
            input=_text(random, words), user_id=f"user-{place}", segment=None, task=f"task-{place % TASKS}",
            unit=f"session:{words}-{place}", salt="salt", now=_NOW,
        )
        for place in range(count)
    ]  # fmt: skip


def _measured(lessons: int, count: int) -> dict[str, Any]:
    random = np.random.default_rng(11)
    given = library(lessons, random)
    asked = {words: requests(words, count, random) for words in REQUEST_WORDS}
    before = _resident_mb()
    begun = time.perf_counter()
    chooser = Chooser(given)
    compile_seconds = time.perf_counter() - begun
    memory_mb = _resident_mb() - before
    wall: dict[int, list[float]] = {}
    processor: dict[int, list[float]] = {}
    chosen = {}
    for words, batch in asked.items():
        chooser.choose(batch[0])
        gc.collect()
        wall[words], processor[words], total = [], [], 0
        for each in batch:
            begun, worked = time.perf_counter(), time.thread_time()
            choice = chooser.choose(each)
            processor[words].append(time.thread_time() - worked)
            wall[words].append(time.perf_counter() - begun)
            total += sum(exposure.status != "over_budget" for exposure in choice.exposures)
        chosen[words] = total / count
    return {
        "compile_seconds": compile_seconds, "memory_mb": memory_mb, "pickle_mb": len(pickle.dumps(given)) / 2**20,
        "wall": wall, "processor": processor, "chosen": chosen,
    }  # fmt: skip


def _text(random: np.random.Generator, words: int) -> str:
    ranks = np.minimum(random.zipf(1.3, words), 20_000)
    return " ".join(f"w{rank}" for rank in ranks.tolist())


def _resident_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
