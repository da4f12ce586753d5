"""The lessons served to one agent as one block of text within a token budget.

The block is a function of the lessons alone: the same lessons give the same bytes, whatever their order, so its hash
identifies what was served. Lessons for all tasks come first, then those of one task, each in order of age; a lesson
that does not fit is left out whole and named, and shorter ones after it may still fit.

Whoever reads the block gets all of it, every time. So it holds active lessons only, a canary being served where it can
also be withheld (POST /v1/steer), and none that is for one user or one segment of them.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.lessons.paragraphs import HEADING, block, estimate_tokens, joined, one_line
from pipelines.stats.contract import require
from store.errors import SettingsError
from store.lesson_serving import SERVED as LESSONS

__all__ = ["LESSONS", "Playbook", "PlaybookConfig", "estimate_tokens", "render"]


@dataclass(frozen=True)
class PlaybookConfig:
    """The token budget of the block, heading included."""

    token_budget: int = 2000

    def __post_init__(self) -> None:
        if self.token_budget < estimate_tokens(HEADING):
            raise SettingsError("playbook token_budget", self.token_budget, f"at least {estimate_tokens(HEADING)}")


@dataclass(frozen=True)
class Playbook:
    """The block (empty without lessons), its lessons in order, its estimated tokens, and why others are not in it."""

    body: str
    lesson_ids: tuple[str, ...]
    tokens: int
    omitted: dict[str, str]


def render(lessons: pl.DataFrame, config: PlaybookConfig | None = None) -> Playbook:
    """Render the lessons that one agent is served (columns LESSONS, one row each) into its playbook.

    Each lesson becomes one paragraph with its id; line breaks inside a text become spaces, so that no text can pose as
    another lesson. A lesson whose condition and instruction repeat an earlier one is omitted. Raises ContractError for
    a wrong frame.
    """
    config = config or PlaybookConfig()
    required = ["lesson_id", "state", "title", "when_text", "do_text", "created_at"]
    lessons = require(lessons, LESSONS, "lessons of a playbook", not_null=required, unique="lesson_id")
    ordered = lessons.sort(
        [pl.col("task").is_not_null(), pl.col("task"), pl.col("created_at"), pl.col("lesson_id")], nulls_last=False
    )
    blocks: list[str] = []
    included = []
    omitted: dict[str, str] = {}
    seen: dict[tuple[str, str], str] = {}
    tokens = estimate_tokens(HEADING)
    for row in ordered.iter_rows(named=True):
        lesson_id = row["lesson_id"]
        if (why := _elsewhere(row)) is not None:
            omitted[lesson_id] = why
            continue
        content = (one_line(row["when_text"]).casefold(), one_line(row["do_text"]).casefold())
        if content in seen:
            omitted[lesson_id] = f"repeats {seen[content]}"
            continue
        paragraph = block(row)
        cost = estimate_tokens("\n\n" + paragraph)
        if tokens + cost > config.token_budget:
            omitted[lesson_id] = f"{cost} tokens do not fit in the {config.token_budget - tokens} left"
            continue
        seen[content] = lesson_id
        tokens += cost
        blocks.append(paragraph)
        included.append(lesson_id)
    body = joined(blocks)
    return Playbook(body, tuple(included), estimate_tokens(body), omitted)


def _elsewhere(row: dict[str, Any]) -> str | None:
    """Why a lesson is served with decisions only, None when it belongs in the block."""
    if row["state"] != "active":
        return "a canary is served with decisions only"
    if row["user_id"] is not None or row["segment"] is not None:
        return "it is for some users only"
    return None
