"""Figures that were drawn before: making one takes a tenth of a second of Python, in which nobody else is served."""

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Concatenate, Final, ParamSpec

import plotly.graph_objects as go
import polars as pl

from dashboard.ui import format as fmt
from dashboard.ui.theme import Theme

__all__ = ["figure"]

_MOST: Final = 64

P = ParamSpec("P")


class _Task:
    """A figure to be drawn: equal to another one that would look the same."""

    def __init__(self, draw: Callable[[], go.Figure], key: Hashable) -> None:
        self.draw = draw
        self.key = key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Task) and self.key == other.key


def figure(
    draw: Callable[Concatenate[pl.DataFrame, P], go.Figure], frame: pl.DataFrame, *args: P.args, **kwargs: P.kwargs
) -> go.Figure:
    """What `draw` makes of the frame and the other arguments on this operator's clock. Do not change it.

    Args: those of `draw` are themes, and what is hashable. For figures of a few hundred points: rows are compared.
    """
    rows = (tuple(frame.columns), tuple(frame.rows()))
    # There is one theme of each name.
    others = tuple(each.name if isinstance(each, Theme) else each for each in args)
    key = (draw.__module__, draw.__qualname__, rows, others, tuple(sorted(kwargs.items())), str(fmt.zone()))
    return _drawn(_Task(lambda: draw(frame, *args, **kwargs), key))


@lru_cache(_MOST)
def _drawn(task: _Task) -> go.Figure:
    return task.draw()
