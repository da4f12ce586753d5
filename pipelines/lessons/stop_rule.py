"""When not to add another lesson: one like it is served, and what it is against goes on (LESSONS 0.4).

A lesson that repeats an earlier one is a stop signal: in Reflexion's logs without gain nine of ten consecutive lessons
repeat each other. What is wrong then is not the wording but a missing tool, a wrong reward or an impossible task, so a
person is asked to look.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from pipelines.lessons.similarity import Similarity

__all__ = ["ALIKE", "STILL_FAILING", "Standing", "Stopped"]

ALIKE: Final = 0.9
STILL_FAILING: Final = 3
"""Bad rollouts since the lesson was approved from which its task counts as still failing."""


@dataclass(frozen=True)
class Stopped:
    """The lesson that is served already, how like the new one it is, and why a person must look."""

    lesson_id: str
    cosine: float
    reason: str


class Standing:
    """Lessons that are or were served (columns `store.contrasts.SERVED`), to hold new ones against."""

    def __init__(self, served: pl.DataFrame) -> None:
        self._served = served
        texts = [
            "\n".join(filter(None, (row["title"], row["when_text"], row["do_text"])))
            for row in served.iter_rows(named=True)
        ]
        self._alike = Similarity.fit(texts)

    def stop(self, text: str, agent: str, task: str | None, bad: pl.DataFrame) -> Stopped | None:
        """Whether a new lesson repeats one whose task still fails; None: it may be proposed.

        Args: `text` title, when and do of the new lesson, one a line; `bad` (task, seen_at) the rollouts that went
        badly in the way that it is against.
        """
        for place, cosine in self._alike.nearest(text, n=len(self._alike)):
            if cosine < ALIKE:
                return None
            row = self._served.row(place, named=True)
            if row["agent"] not in (agent, "*") or (task is not None and row["task"] not in (None, task)):
                continue
            failing = bad if row["task"] is None else bad.filter(pl.col("task") == row["task"])
            since: datetime = row["served_since"]
            after = failing.filter(pl.col("seen_at") >= since).height
            if after >= STILL_FAILING:
                return Stopped(
                    row["lesson_id"], cosine,
                    f"Lesson {row['lesson_id']} says the same ({cosine:.2f} alike), is {row['state']} since "
                    f"{since:%Y-%m-%d}, and {after} rollouts went badly in this way after that. One more lesson will "
                    "not help: is a tool missing, the reward wrong or the task impossible?",
                )  # fmt: skip
        return None
