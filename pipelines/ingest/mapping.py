"""A column mapping: which column of a file fills which target, read how.

A mapping is data: guessed (`guess.py`), shown and edited, saved per source as JSON or kept by hand as TOML, and
compiled to SQL (`select.py`). The TOML form, where `transform` may be left out for the target's usual one:

    kind = "signals"
    source = "shop"

    [[rule]]
    target = "user_id"
    column = "uid"

    [[rule]]
    target = "kind"
    constant = "thumb"
"""

import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.ingest.layout_columns import (
    ANNOTATOR_KIND_WORDS,
    KINDS,
    LAYOUTS,
    SIGNAL_KIND_WORDS,
    SPAN_KIND_WORDS,
    STATUS_WORDS,
    TARGETS,
    Kind,
    LayoutColumn,
)
from pipelines.ingest.transforms import TRANSFORMS_FOR, Transform, expected
from store.errors import IngestError


class MappingError(IngestError):
    """A mapping that cannot be used.

    Args: every one of its `problems`, each a sentence naming the rule, what came and what was expected.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("The column mapping cannot be used. " + " ".join(self.problems))


@dataclass(frozen=True)
class Rule:
    """Fill `target` from `column` read by `transform`; `constant` stands in where the column is absent or empty."""

    target: str
    column: str | None
    transform: Transform
    constant: str | None = None


@dataclass(frozen=True)
class Mapping:
    """The rules for files of one source, each row of which states one record of `kind`."""

    kind: Kind
    rules: tuple[Rule, ...]
    source: str

    def rule(self, target: str) -> Rule | None:
        """The rule that fills a target."""
        return next((rule for rule in self.rules if rule.target == target), None)

    def columns(self) -> tuple[str, ...]:
        """The columns of the file that rules read, each once, in the order of the rules."""
        return tuple(dict.fromkeys(rule.column for rule in self.rules if rule.column is not None))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and TOML; what is absent is left out."""
        rules = [
            {
                key: value
                for key, value in (
                    ("target", rule.target),
                    ("column", rule.column),
                    ("transform", rule.transform.value),
                    ("constant", rule.constant),
                )
                if value is not None
            }
            for rule in self.rules
        ]
        return {"kind": self.kind, "source": self.source, "rule": rules}

    def to_json(self) -> str:
        """The mapping as JSON text; `from_json` reads it back."""
        return json.dumps(self.as_dict())

    @staticmethod
    def from_json(text: str) -> "Mapping":
        """Read a mapping from JSON text. Raises: `MappingError`."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MappingError([f"It is not JSON ({error})."]) from error
        return _from_document(document)

    def to_toml(self) -> str:
        """The mapping as TOML text for people to edit; `from_toml` reads it back."""
        document = self.as_dict()
        lines = [f"kind = {_toml_text(self.kind)}", f"source = {_toml_text(self.source)}"]
        for rule in document["rule"]:
            lines += ["", "[[rule]]", *(f"{key} = {_toml_text(value)}" for key, value in rule.items())]
        return "\n".join(lines) + "\n"

    @staticmethod
    def from_toml(text: str) -> "Mapping":
        """Read a mapping from TOML text. Raises: `MappingError`."""
        try:
            document = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise MappingError([f"It is not TOML ({error})."]) from error
        return _from_document(document)


def identity(kind: Kind, columns: Iterable[str], source: str) -> Mapping:
    """The mapping of a file in our own layout: every column that is a target of `kind` fills itself."""
    targets = TARGETS[kind]
    rules = [Rule(name, name, default_transform(targets[name])) for name in columns if name in targets]
    return Mapping(kind, tuple(rules), source)


def is_own_layout(kind: Kind, columns: Iterable[str]) -> bool:
    """Whether a file has the columns that the layout of `kind` requires, by their own names."""
    present = set(columns)
    return kind != "impressions" and all(column.name in present for column in LAYOUTS[kind] if column.required)


def default_transform(target: LayoutColumn) -> Transform:
    """The transform a target is filled with unless a rule says otherwise."""
    return TRANSFORMS_FOR[target.type][0]


def matches(saved: Mapping, columns: Iterable[str]) -> bool:
    """Whether a saved mapping fits a file: the file has every column that the rules read."""
    return set(saved.columns()) <= set(columns)


def validate(mapping: Mapping, columns: Iterable[str] | None = None) -> None:
    """Check a mapping, and that a file with these columns has what it reads. Raises: `MappingError`."""
    found = problems(mapping, columns)
    if found:
        raise MappingError(found)


def problems(mapping: Mapping, columns: Iterable[str] | None = None) -> list[str]:
    """Everything wrong with a mapping, one sentence each; empty when it can be used."""
    if mapping.kind not in TARGETS:
        return [f'Kind is "{mapping.kind}"; expected one of {", ".join(KINDS)}.']
    present = None if columns is None else set(columns)
    found = [] if mapping.rules else ["It has no rules; expected at least one."]
    if not mapping.source.strip():
        found.append("Source is empty; expected the name of the system the file comes from.")
    seen: set[str] = set()
    for rule in mapping.rules:
        if rule.target in seen:
            found.append(f'Target "{rule.target}" has two rules; expected one.')
        seen.add(rule.target)
        found += _rule_problems(mapping.kind, rule, present)
    found += [f'No rule fills "{name}"; {why}.' for name, why in _required(mapping.kind) if name not in seen]
    if "duration_seconds" in seen and "started_at" not in seen:
        found.append('Target "duration_seconds" needs a rule for "started_at": together they say when the run ended.')
    return found


def _rule_problems(kind: Kind, rule: Rule, present: set[str] | None) -> list[str]:
    target = TARGETS[kind].get(rule.target)
    if target is None:
        return [f'There is no target "{rule.target}"; expected one of {", ".join(TARGETS[kind])}.']
    found = []
    allowed = TRANSFORMS_FOR[target.type]
    if rule.transform not in allowed:
        found.append(f'Target "{rule.target}" cannot use {rule.transform}; expected {", ".join(allowed)}.')
    if rule.column is None and rule.constant is None and rule.transform is not Transform.ROW_ID:
        found.append(f'The rule for "{rule.target}" names neither a column nor a constant; expected one of them.')
    if rule.column is not None and present is not None and rule.column not in present:
        found.append(f'The rule for "{rule.target}" reads column "{rule.column}", which the file does not have.')
    words = _CHOICES.get(rule.transform)
    if rule.constant is not None and words is not None and rule.constant not in words:
        found.append(f'The constant for "{rule.target}" is "{rule.constant}"; expected {", ".join(words)}.')
    return found


_CHOICES = {
    Transform.STATUS: tuple(STATUS_WORDS),
    Transform.SPAN_KIND: tuple(SPAN_KIND_WORDS),
    Transform.SIGNAL_KIND: tuple(SIGNAL_KIND_WORDS),
    Transform.ANNOTATOR_KIND: tuple(ANNOTATOR_KIND_WORDS),
}


def _required(kind: Kind) -> list[tuple[str, str]]:
    """The targets that some rule must fill, and why; ids that can be derived from the row are not among them."""
    match kind:
        case "spans":
            return [("trace_id", "a span belongs to a trace")]
        case "signals":
            return [("kind", "a constant such as thumb does when all rows are of one kind")]
        case "impressions":
            return [("clicked", "it says which rows were clicked")]
        case _:
            return []


def explain(mapping: Mapping) -> list[dict[str, str]]:
    """The rules as rows for display, in the order of the targets; keys target, from, transform, means."""
    order = {name: place for place, name in enumerate(TARGETS[mapping.kind])}
    rows = []
    for rule in sorted(mapping.rules, key=lambda each: order.get(each.target, len(order))):
        target = TARGETS[mapping.kind].get(rule.target)
        origin = f"column {rule.column}" if rule.column is not None else ""
        if rule.constant is not None:
            fallback = f'the constant "{rule.constant}"'
            origin = f"{origin}, else {fallback}" if origin else fallback
        rows.append(
            {
                "target": rule.target,
                "from": origin or "the row's contents",
                "transform": rule.transform.value,
                "means": f"{target.description} Read as {expected(rule.transform)}." if target else "",
            }
        )
    return rows


def _from_document(document: object) -> Mapping:
    """Build a mapping from parsed JSON or TOML. Raises: `MappingError`."""
    if not isinstance(document, dict):
        raise MappingError([f"It holds {type(document).__name__}; expected an object with kind, source and rule."])
    unknown = sorted(set(document) - {"kind", "source", "rule"})
    if unknown:
        raise MappingError([f'There is no setting "{unknown[0]}"; expected kind, source and rule.'])
    kind, source, rules = document.get("kind"), document.get("source", ""), document.get("rule", [])
    if kind not in KINDS:
        raise MappingError([f"Kind is {kind!r}; expected one of {', '.join(KINDS)}."])
    if not isinstance(source, str) or not isinstance(rules, list):
        raise MappingError(["Source must be a text and rule a list of rules."])
    return Mapping(kind, tuple(_rule_from(kind, number, rule) for number, rule in enumerate(rules, 1)), source)


def _rule_from(kind: Kind, number: int, document: object) -> Rule:
    if not isinstance(document, dict):
        raise MappingError([f"Rule {number} is {type(document).__name__}; expected an object with a target."])
    keys = ("target", "column", "transform", "constant")
    for key, value in document.items():
        if key not in keys:
            raise MappingError([f'Rule {number} has "{key}"; expected {", ".join(keys)}.'])
        if value is not None and not isinstance(value, str):
            raise MappingError([f"Rule {number} has {key} = {value!r}; expected a text in quotes."])
    name = document.get("target")
    target = TARGETS[kind].get(name) if name is not None else None
    if target is None:
        raise MappingError([f"Rule {number} has target {name!r}; expected one of {', '.join(TARGETS[kind])}."])
    spelled = document.get("transform")
    try:
        transform = default_transform(target) if spelled is None else Transform(spelled)
    except ValueError as error:
        allowed = ", ".join(TRANSFORMS_FOR[target.type])
        raise MappingError([f'Rule {number} has transform "{spelled}"; expected one of {allowed}.']) from error
    return Rule(target.name, document.get("column"), transform, document.get("constant"))


def _toml_text(text: str) -> str:
    """A TOML basic string: the escapes of JSON, and DEL, which TOML alone forbids."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
