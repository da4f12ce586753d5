"""What a lesson's text is judged against, gathered before, so that the rules are pure."""

from dataclasses import dataclass, field

import polars as pl

from pipelines.lessons.likeness import Likeness
from store.lesson_material import LIBRARY
from store.lessons import EVIDENCE
from store.policy import Limits

__all__ = ["LIBRARY", "Material", "Passage"]


@dataclass(frozen=True)
class Passage:
    """A text that a user or a tool wrote, and where: `field` is input, output, arguments or status_message."""

    text: str
    trace_id: str | None = None
    span_id: str | None = None
    field: str | None = None


@dataclass(frozen=True)
class Material:
    """What a text is judged against; everything may be empty.

    `evidence` has the columns `store.lessons.EVIDENCE`; `untrusted` are inputs and outputs of its traces; `library` the
    other lessons that are served or wait (columns LIBRARY); `limits` the guardrails of the agent; `tasks` the distinct
    tasks in the evidence; `contrast` whether it has a good and a bad side. `names` are user and session ids and values
    of metadata of the evidence traces, `values` the arguments and answers of them, `elsewhere` the folded words of
    other traces of the agent, `tools` its tools' names. `likeness` is that of the text to the library, by embeddings.
    """

    evidence: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVIDENCE))
    untrusted: tuple[Passage | str, ...] = ()
    library: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LIBRARY))
    limits: Limits = field(default_factory=Limits)
    tasks: int = 0
    contrast: bool = False
    lesson_id: str | None = None
    agent: str | None = None
    task: str | None = None
    origin: str = "contrast"
    names: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    elsewhere: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    likeness: Likeness = field(default_factory=Likeness)
