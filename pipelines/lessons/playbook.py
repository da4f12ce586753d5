"""The lessons served to one agent as one block of text within a token budget.

The block is a function of the lessons alone: the same lessons give the same bytes, whatever their order, so its hash
identifies what was served. Lessons for all tasks come first, then those of one task, each in order of age; a lesson
that does not fit is left out whole and named, and shorter ones after it may still fit.

Tokens are estimated without a tokenizer: one per four ASCII characters and one per other character, rounded up. English
prose averages a little over four characters per token; Chinese, Japanese and Korean are near one token per character.
The estimate was not calibrated on a tokenizer: leave a margin where the agent's limit is hard.
"""

from dataclasses import dataclass

import polars as pl

from pipelines.stats.contract import require
from store.errors import SettingsError
from store.lesson_reviews import ACTIVE as LESSONS

__all__ = ["LESSONS", "Playbook", "PlaybookConfig", "estimate_tokens", "render"]

_HEADING = "# Lessons from earlier runs\nFollow a lesson when its condition holds. Cite the ids of those you used."


@dataclass(frozen=True)
class PlaybookConfig:
    """The token budget of the block, heading included."""

    token_budget: int = 2000

    def __post_init__(self) -> None:
        if self.token_budget < estimate_tokens(_HEADING):
            raise SettingsError("playbook token_budget", self.token_budget, f"at least {estimate_tokens(_HEADING)}")


@dataclass(frozen=True)
class Playbook:
    """The block (empty without lessons), its lessons in order, its estimated tokens, and why others are not in it."""

    body: str
    lesson_ids: tuple[str, ...]
    tokens: int
    omitted: dict[str, str]


def estimate_tokens(text: str) -> int:
    """A cautious estimate of how many tokens a language model reads in `text`."""
    ascii_characters = sum(character.isascii() for character in text)
    return -(-ascii_characters // 4) + len(text) - ascii_characters


def render(lessons: pl.DataFrame, config: PlaybookConfig | None = None) -> Playbook:
    """Render the active lessons of one agent (columns LESSONS, one row each) into its playbook.

    Each lesson becomes one paragraph with its id; line breaks inside a text become spaces, so that no text can pose as
    another lesson. A lesson whose condition and instruction repeat an earlier one is omitted. Raises ContractError for
    a wrong frame.
    """
    config = config or PlaybookConfig()
    required = ["lesson_id", "title", "when_text", "do_text", "created_at"]
    lessons = require(lessons, LESSONS, "lessons of a playbook", not_null=required, unique="lesson_id")
    ordered = lessons.sort(
        [pl.col("task").is_not_null(), pl.col("task"), pl.col("created_at"), pl.col("lesson_id")], nulls_last=False
    )
    blocks, included = [_HEADING], []
    omitted: dict[str, str] = {}
    seen: dict[tuple[str, str], str] = {}
    tokens = estimate_tokens(_HEADING)
    for row in ordered.iter_rows(named=True):
        lesson_id = row["lesson_id"]
        content = (_one_line(row["when_text"]).casefold(), _one_line(row["do_text"]).casefold())
        if content in seen:
            omitted[lesson_id] = f"repeats {seen[content]}"
            continue
        block = _block(row)
        cost = estimate_tokens("\n\n" + block)
        if tokens + cost > config.token_budget:
            omitted[lesson_id] = f"{cost} tokens do not fit in the {config.token_budget - tokens} left"
            continue
        seen[content] = lesson_id
        tokens += cost
        blocks.append(block)
        included.append(lesson_id)
    body = "\n\n".join(blocks) + "\n" if included else ""
    return Playbook(body, tuple(included), estimate_tokens(body), omitted)


def _block(row: dict[str, str | None]) -> str:
    lines = [f"## [{row['lesson_id']}] {_one_line(row['title'])}"]
    if row["task"] is not None:
        lines.append(f"Task: {_one_line(row['task'])}")
    lines.append(f"When: {_one_line(row['when_text'])}")
    if row["when_not"]:
        lines.append(f"Not when: {_one_line(row['when_not'])}")
    lines.append(f"Do: {_one_line(row['do_text'])}")
    return "\n".join(lines)


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
