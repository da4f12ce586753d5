"""Mappings: round trips, what is wrong with a bad one in words, reuse, and the layouts they aim at."""

import re
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest.layout_columns import KINDS, LAYOUTS, TABLES, TARGETS, USUAL_NAMES, Kind, fact_columns
from pipelines.ingest.mapping import (
    Mapping,
    MappingError,
    Rule,
    default_transform,
    explain,
    identity,
    is_own_layout,
    matches,
    problems,
    validate,
)
from pipelines.ingest.transforms import TRANSFORMS_FOR, Transform

T = Transform
SCHEMA = Path(__file__).resolve().parents[3] / "store" / "migrations" / "0001_init.sql"


@st.composite
def mappings(draw: st.DrawFn) -> Mapping:
    kind: Kind = draw(st.sampled_from(KINDS))
    targets = draw(st.lists(st.sampled_from(sorted(TARGETS[kind])), unique=True, min_size=1))
    rules = []
    for name in targets:
        transform = draw(st.sampled_from(TRANSFORMS_FOR[TARGETS[kind][name].type]))
        rules.append(Rule(name, draw(st.none() | st.text()), transform, draw(st.none() | st.text())))
    return Mapping(kind, tuple(rules), draw(st.text()))


@settings(max_examples=200, deadline=None)
@given(mappings())
def test_round_trips(mapping: Mapping) -> None:
    assert Mapping.from_json(mapping.to_json()) == mapping
    assert Mapping.from_toml(mapping.to_toml()) == mapping
    problems(mapping)  # whatever the texts are, they are described, not tripped over
    explain(mapping)


def test_toml_by_hand() -> None:
    text = """
    kind = "signals"
    source = "shop"
    rule = [
      {target = "user_id", column = "uid"},
      {target = "value", column = "vote", transform = "thumb"},
      {target = "kind", constant = "thumb"},
    ]
    """
    mapping = Mapping.from_toml(text)
    assert mapping.rules == (
        Rule("user_id", "uid", T.TEXT),
        Rule("value", "vote", T.THUMB),
        Rule("kind", None, T.SIGNAL_KIND, "thumb"),
    )
    assert mapping.columns() == ("uid", "vote")
    assert mapping.rule("value") == Rule("value", "vote", T.THUMB)
    assert mapping.rule("item") is None
    validate(mapping, ["uid", "vote", "other"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind = [", "not TOML"),
        ('kind = "cats"', "Kind is 'cats'; expected one of traces, spans"),
        ('kind = "traces"\ncolor = "red"', 'no setting "color"'),
        ('kind = "traces"\nrule = 3', "rule a list"),
        ('kind = "traces"\nsource = 3', "Source must be a text"),
        ('kind = "traces"\n[[rule]]\ncolumn = "a"', "Rule 1 has target None"),
        ('kind = "traces"\n[[rule]]\ntarget = "cost"', "Rule 1 has target 'cost'; expected one of trace_id"),
        ('kind = "traces"\n[[rule]]\ntarget = "input"\ncolumn = 3', "Rule 1 has column = 3; expected a text"),
        ('kind = "traces"\n[[rule]]\ntarget = "input"\ncolour = "a"', 'Rule 1 has "colour"'),
        ('kind = "traces"\n[[rule]]\ntarget = "input"\ntransform = "loud"', 'transform "loud"; expected one of text'),
    ],
)
def test_toml_that_cannot_be_read(text: str, complaint: str) -> None:
    with pytest.raises(MappingError, match=re.escape(complaint)):
        Mapping.from_toml(text)


@pytest.mark.parametrize("text", ["", "[", "[]", "3", '{"kind": 3}', '{"kind": "traces", "rule": [3]}', "[" * 100_000])
def test_json_that_cannot_be_read(text: str) -> None:
    with pytest.raises(MappingError):
        Mapping.from_json(text)


@pytest.mark.parametrize(
    ("mapping", "complaint"),
    [
        (Mapping("traces", (), "s"), "no rules"),
        (Mapping("traces", (Rule("input", "a", T.TEXT),), " "), "Source is empty"),
        (Mapping("traces", (Rule("input", "b", T.TEXT),), "s"), 'reads column "b", which the file does not have'),
        (Mapping("traces", (Rule("input", None, T.TEXT),), "s"), "neither a column nor a constant"),
        (Mapping("traces", (Rule("item", "a", T.TEXT),), "s"), 'no target "item"'),
        (Mapping("traces", (Rule("input", "a", T.TEXT), Rule("input", "a", T.TEXT)), "s"), "has two rules"),
        (Mapping("traces", (Rule("started_at", "a", T.NUMBER),), "s"), "cannot use number; expected time_auto"),
        (Mapping("traces", (Rule("duration_seconds", "a", T.SECONDS),), "s"), 'needs a rule for "started_at"'),
        (Mapping("spans", (Rule("span_id", "a", T.TEXT),), "s"), 'No rule fills "trace_id"'),
        (Mapping("signals", (Rule("value", "a", T.THUMB),), "s"), 'No rule fills "kind"'),
        (Mapping("signals", (Rule("kind", None, T.SIGNAL_KIND, "joy"),), "s"), 'is "joy"; expected thumb, rating'),
        (Mapping("impressions", (Rule("item", "a", T.TEXT),), "s"), 'No rule fills "clicked"'),
        (Mapping("impressions", (Rule("value", "a", T.NUMBER), Rule("clicked", "a", T.BOOLEAN)), "s"), '"value"'),
        (Mapping("cats", (), "s"), "expected one of traces"),  # type: ignore[arg-type]
    ],
)
def test_problems_are_said_in_words(mapping: Mapping, complaint: str) -> None:
    assert any(complaint in problem for problem in problems(mapping, ["a"]))
    with pytest.raises(MappingError, match=re.escape(complaint)) as caught:
        validate(mapping, ["a"])
    assert caught.value.problems == tuple(problems(mapping, ["a"]))


def test_reuse_needs_every_column_the_rules_read() -> None:
    saved = Mapping("traces", (Rule("input", "q", T.TEXT), Rule("agent", None, T.TEXT, "bot")), "shop")
    assert matches(saved, ["q", "new"])
    assert not matches(saved, ["Q", "new"])


@pytest.mark.parametrize("kind", ["traces", "spans", "signals"])
def test_own_layouts_map_to_themselves(kind: Kind) -> None:
    names = [column.name for column in LAYOUTS[kind]]
    mapping = identity(kind, [*names, "surplus"], "s")
    assert [(rule.target, rule.column) for rule in mapping.rules] == [(name, name) for name in names]
    validate(mapping, names)
    assert is_own_layout(kind, names)
    required = [column.name for column in LAYOUTS[kind] if column.required]
    assert is_own_layout(kind, required)
    assert not is_own_layout(kind, required[1:])
    assert not is_own_layout("impressions", names)


def test_explanations_are_in_the_order_of_the_targets() -> None:
    rules = (Rule("value", "v", T.THUMB), Rule("kind", None, T.SIGNAL_KIND, "thumb"), Rule("trace_id", None, T.ROW_ID))
    rows = explain(Mapping("signals", (*rules, Rule("name", "n", T.TEXT, "helpful")), "s"))
    assert [(row["target"], row["from"], row["transform"]) for row in rows] == [
        ("trace_id", "the row's contents", "row_id"),
        ("kind", 'the constant "thumb"', "signal_kind"),
        ("name", 'column n, else the constant "helpful"', "text"),
        ("value", "column v", "thumb"),
    ]
    assert all(row["means"] for row in rows)


def test_layouts_are_the_columns_of_the_fact_tables() -> None:
    with duckdb.connect() as connection:
        connection.execute(SCHEMA.read_text())
        for kind, table in TABLES.items():
            described = connection.execute(f"DESCRIBE {table}").fetchall()
            columns = {row[0]: row[1] for row in described if row[0] not in ("content_hash", "batch_id")}
            ours = {
                name: type_.replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
                for name, type_ in fact_columns(kind).items()
            }
            assert list(ours.items()) == list(columns.items())
            layout = {column.name for column in LAYOUTS["signals" if kind == "impressions" else kind]}
            assert layout | {"source"} == set(columns)


def test_every_target_has_a_description_and_a_usual_transform() -> None:
    for kind in KINDS:
        for target in TARGETS[kind].values():
            assert target.description.endswith(".")
            assert default_transform(target) in Transform


def test_usual_names_are_of_targets_and_in_the_form_they_are_compared() -> None:
    targets = {name for kind in KINDS for name in TARGETS[kind]}
    for name, words in USUAL_NAMES.items():
        assert name.rpartition(".")[2] in targets
        assert re.fullmatch(r"[a-z0-9 ]+(\| [a-z0-9 ]+)?", words), name
