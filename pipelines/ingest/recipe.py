"""How one file is going to be read: its recognised format, and the mapping or importer that turns records into rows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipelines.ingest.formats import Format, importer_for, recognise_columns, recognise_record
from pipelines.ingest.guess import Guess, guess
from pipelines.ingest.layout_columns import Kind
from pipelines.ingest.mapping import Mapping, Rule, identity, matches, problems, validate
from pipelines.ingest.readers import Opened
from pipelines.ingest.rows import Rows
from pipelines.ingest.transforms import Transform
from store.errors import FileRejected

_OWN: dict[Format, Kind] = {Format.TRACES: "traces", Format.SPANS: "spans", Format.SIGNALS: "signals"}

# Where a file comes from when nobody says: by what wrote it, never by its name.
_SOURCES = {Format.CHAT: "chat", Format.TAU_BENCH: "tau-bench"}


@dataclass(frozen=True)
class Recipe:
    """Exactly one of `mapping` and `importer` is set; `companion` maps the feedback that rows of traces also hold."""

    format: Format
    source: str
    mapping: Mapping | None = None
    companion: Mapping | None = None
    importer: Callable[[dict[str, Any], str], Rows] | None = None
    guess: Guess | None = None
    guessed: list[dict[str, str]] = field(default_factory=list)
    why: str = ""

    @property
    def label(self) -> str:
        """The format's name for people."""
        return self.format.label

    def as_dict(self) -> dict[str, Any]:
        """What has to be equal for staged slices to be continued."""
        return {
            "format": self.format.value,
            "source": self.source,
            "mapping": self.mapping.as_dict() if self.mapping else None,
            "companion": self.companion.as_dict() if self.companion else None,
        }


def choose(
    opened: Opened,
    *,
    file: str,
    source: str | None = None,
    mapping: Mapping | None = None,
    saved: dict[str, tuple[str, list[str]]] | None = None,
) -> Recipe:
    """Decide how to read a file from what is in it.

    Args: `opened` file; its `file` name for messages; `source` and `mapping` as the operator stated them; `saved`
    mappings by source (JSON text and the columns they were made for).
    Raises: `FileRejected` when no way to read it is known.
    """
    if mapping is not None:
        return _mapped(opened, mapping, source or mapping.source, why="A mapping was given.")
    recognised = _recognise(opened)
    if recognised in _OWN:
        name = source or "upload"
        own = identity(_OWN[recognised], opened.columns, name)
        return Recipe(recognised, name, own, why=recognised.why)
    if recognised is not None and (importer := importer_for(recognised)) is not None:
        name = source or _SOURCES.get(recognised, "langfuse")
        return Recipe(recognised, name, importer=importer, why=recognised.why)
    return _map(opened, file, source, saved or {})


def _map(opened: Opened, file: str, source: str | None, saved: dict[str, tuple[str, list[str]]]) -> Recipe:
    """A saved mapping that fits, else a guessed one."""
    for name, (text, columns) in saved.items():
        if source in (None, name) and (source is not None or columns == opened.columns):
            candidate = Mapping.from_json(text)
            if matches(candidate, opened.columns):
                return _mapped(opened, candidate, name, why=f"The mapping saved for source {name!r} fits.")
    name = source or "upload"
    guessed = guess(opened.columns, opened.sample, source=name)
    if not guessed.usable:
        missing = problems(guessed.mapping, opened.columns)
        raise FileRejected(
            file,
            f"Its columns ({', '.join(opened.columns[:12])}) are not recognised: {' '.join(missing)}",
            "Give a column mapping on the Data page or with --map.",
        )
    return _mapped(opened, guessed.mapping, name, guessed, why=guessed.reason)


def _mapped(opened: Opened, mapping: Mapping, source: str, guessed: Guess | None = None, *, why: str) -> Recipe:
    """The recipe of a mapping, with that of the feedback in rows of traces. Raises: `MappingError`."""
    mapping = Mapping(mapping.kind, mapping.rules, source)
    validate(mapping, opened.columns if opened.tabular else None)
    companion = None
    if mapping.kind == "traces":
        companion = guess(opened.columns, opened.sample, source=source, kind="traces").companion
    if companion is not None:
        identity_rule = mapping.rule("trace_id") or Rule("trace_id", None, Transform.ROW_ID)
        others = tuple(rule for rule in companion.rules if rule.target != "trace_id")
        companion = Mapping("signals", (identity_rule, *others), source)
    notes = [
        {"target": note.target, "column": note.column or "", "reason": note.reason}
        for note in (guessed.notes if guessed else ())
    ]
    return Recipe(Format.MAPPED, source, mapping, companion, guess=guessed, guessed=notes, why=why)


def _recognise(opened: Opened) -> Format | None:
    """The format that most of the first records show; columns decide where records have them."""
    if opened.tabular:
        return recognise_columns(opened.columns)
    votes: dict[Format, int] = {}
    for record in opened.sample:
        found = recognise_record(record)
        if found is not None:
            votes[found] = votes.get(found, 0) + 1
    return max(votes, key=lambda name: votes[name]) if votes else None
