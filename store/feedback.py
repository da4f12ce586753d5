"""What people volunteered against what they were asked at random: the shares of thumbs up, per agent."""

import polars as pl

from store.connection import Store
from store.frames import declare

THUMBS = declare(
    {
        "agent": pl.String, "traces": pl.Int64, "volunteered": pl.Int64, "volunteered_up": pl.Int64,
        "solicited": pl.Int64, "solicited_up": pl.Int64,
    }
)  # fmt: skip


def thumbs(store: Store) -> pl.DataFrame:
    """Thumbs of people per agent, volunteered and asked for at random (columns `THUMBS`), most traces first.

    An answer counts as asked for at random only with the probability of being asked. Agents without any are left out.
    """
    with store.read() as reader:
        return reader.frame(
            """WITH given AS (
                SELECT coalesce(s.trace_id, l.trace_id) AS trace_id, s.value > 0.5 AS up,
                    coalesce(s.solicited AND s.propensity > 0 AND s.propensity <= 1, false) AS asked
                FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
                WHERE s.kind = 'thumb' AND s.value BETWEEN 0 AND 1 AND s.annotator_kind IS DISTINCT FROM 'llm'
            ), counted AS (
                SELECT t.agent, count(*) FILTER (NOT g.asked) AS volunteered,
                    count(*) FILTER (NOT g.asked AND g.up) AS volunteered_up,
                    count(*) FILTER (g.asked) AS solicited, count(*) FILTER (g.asked AND g.up) AS solicited_up
                FROM given AS g JOIN traces AS t USING (trace_id) GROUP BY t.agent
            ), held AS (SELECT agent, count(*) AS traces FROM traces GROUP BY agent)
            SELECT c.agent, h.traces, c.volunteered, c.volunteered_up, c.solicited, c.solicited_up
            FROM counted AS c JOIN held AS h ON h.agent IS NOT DISTINCT FROM c.agent
            ORDER BY h.traces DESC, c.agent""",
            THUMBS,
        )
