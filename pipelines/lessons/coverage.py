"""How much of a task the library already speaks to, so that the next lesson is looked for where none is served.

A lesson in a served state covers the traces of a task that match its scope, if its text fits the task: it is for that
very task, it names a tool that rollouts of the task call, or its words are like the task's requests (cosine of
`pipelines.lessons.similarity`). A lesson is about one mistake, not about all that can go wrong in a task, so each
halves what is left: uncovered = Π (1 - share / 2).
"""

import re
from typing import Final

import polars as pl

from pipelines.lessons.similarity import Similarity

__all__ = ["LIKE", "uncovered"]

LIKE: Final = 0.2
"""Cosine from which a lesson's words count as those of a task's requests."""

_NAMED: Final = re.compile(r"`([^`\s]{1,64})`")
_SERVED: Final = ("canary", "active")


def uncovered(
    tasks: pl.DataFrame, served: pl.DataFrame, requests: pl.DataFrame, tools: pl.DataFrame, user_shares: pl.DataFrame
) -> pl.Series:
    """For each row of `tasks` (agent, task) the share that lessons leave, from 1 (nothing covers it) towards 0.

    Args: `served`, `requests` and `user_shares` of the columns SERVED, REQUESTS and USER_SHARES of `store.contrasts`;
    `tools` (agent, task, name) which tools are called. A lesson for a segment is not counted: which traces are of a
    segment is known only where they were steered.
    """
    lessons = served.filter(pl.col("state").is_in(list(_SERVED)) & pl.col("segment").is_null())
    left = tasks.select("agent", "task").with_columns(left=pl.lit(1.0))
    if lessons.is_empty() or tasks.is_empty():
        return left["left"]
    documents = _documents(tasks, requests, tools)
    for (agent,), own in left.group_by("agent", maintain_order=True):
        for_agent = lessons.filter(pl.col("agent").is_in([agent, "*"]))
        if for_agent.is_empty():
            continue
        words = documents.filter(pl.col("agent") == agent)
        shares = own.select("task").with_columns(left=_left(str(agent), words, for_agent, user_shares))
        fresh = shares.with_columns(agent=pl.lit(agent))
        left = left.join(fresh, on=["agent", "task"], how="left", suffix="_new", maintain_order="left")
        left = left.select("agent", "task", left=pl.coalesce("left_new", "left"))
    return left["left"]


def _documents(tasks: pl.DataFrame, requests: pl.DataFrame, tools: pl.DataFrame) -> pl.DataFrame:
    """(agent, task, text, names) in the order of `tasks`."""
    keys = ["agent", "task"]
    asked = requests.group_by(keys, maintain_order=True).agg(text=pl.col("input").str.join("\n"))
    called = tools.group_by(keys, maintain_order=True).agg(names=pl.col("name").cast(pl.String).unique().sort())
    joined = tasks.select(keys).join(asked, on=keys, how="left", maintain_order="left")
    return joined.join(called, on=keys, how="left", maintain_order="left").with_columns(
        pl.col("text").fill_null(""), pl.col("names").fill_null([])
    )


def _left(agent: str, words: pl.DataFrame, lessons: pl.DataFrame, user_shares: pl.DataFrame) -> pl.Series:
    alike = Similarity.fit(words["text"].to_list())
    left = pl.Series("left", [1.0] * words.height)
    for row in lessons.iter_rows(named=True):
        if row["task"] is not None:
            fits = words["task"] == row["task"]
        else:
            text = f"{row['title']}\n{row['when_text']}\n{row['do_text']}"
            named = _NAMED.findall(text)
            calls = words["names"].list.set_intersection(named).list.len() > 0
            fits = calls | pl.Series(alike.cosines(text) >= LIKE)
        share = fits.cast(pl.Float64)
        if row["user_id"] is not None:
            own = user_shares.filter((pl.col("agent") == agent) & (pl.col("user_id") == row["user_id"]))
            known = words.select("task").join(own.select("task", "share"), on="task", how="left", maintain_order="left")
            share = share * known["share"].fill_null(0.0)
        left = left * (1.0 - share / 2.0)
    return left
