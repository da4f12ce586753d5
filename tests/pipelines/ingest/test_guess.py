"""Guesses on the headers and first rows that real files have."""

import csv
import gzip
import io
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest.guess import Guess, guess
from pipelines.ingest.layout_columns import KINDS, LAYOUTS, TARGETS, Kind
from pipelines.ingest.mapping import identity, problems
from pipelines.ingest.transforms import TRANSFORMS_FOR, Transform

T = Transform


@dataclass(frozen=True)
class File:
    """The start of a file, the kind of its rows, and the rules expected: target to (column or constant, transform)."""

    text: str
    kind: Kind
    rules: dict[str, tuple[str, Transform]]
    unmapped: list[str] = field(default_factory=list)


FILES: dict[str, File] = {
    "chat log": File(
        """id,created_at,userId,conversation_id,prompt,response,model,prompt_tokens,completion_tokens,latency_ms,cost
a1,2026-01-05T10:00:00Z,u1,c1,Hi there,Hello,gpt-4o,10,20,1530,0.0012
a2,2026-01-05T10:01:00Z,u2,c2,Why?,Because,gpt-4o,12,25,890,0.0014""",
        "traces",
        {
            "trace_id": ("id", T.TEXT),
            "started_at": ("created_at", T.TIME_AUTO),
            "user_id": ("userId", T.TEXT),
            "session_id": ("conversation_id", T.TEXT),
            "input": ("prompt", T.TEXT),
            "output": ("response", T.TEXT),
            "model": ("model", T.TEXT),
            "input_tokens": ("prompt_tokens", T.INTEGER),
            "output_tokens": ("completion_tokens", T.INTEGER),
            "duration_seconds": ("latency_ms", T.MILLISECONDS),
            "cost_usd": ("cost", T.USD),
        },
    ),
    "usage log with cents and microseconds": File(
        """request_id,agent,model,tokens_in,tokens_out,cost_cents,status,timestamp,region
a,bot,gpt,10,20,0.12,success,1767225600123456,eu
b,bot,gpt,11,22,0.13,failed,1767225600223456,us""",
        "traces",
        {
            "trace_id": ("request_id", T.TEXT),
            "agent": ("agent", T.TEXT),
            "model": ("model", T.TEXT),
            "input_tokens": ("tokens_in", T.INTEGER),
            "output_tokens": ("tokens_out", T.INTEGER),
            "cost_usd": ("cost_cents", T.CENTS),
            "status": ("status", T.STATUS),
            "started_at": ("timestamp", T.TIME_MICROSECONDS),
        },
        ["region"],
    ),
    "questions with a variant and US dates": File(
        """Question,Answer,Variant,Started,Elapsed Seconds
hi,hello,A,01/31/2026 10:00,1.5
yo,hey,B,02/01/2026 11:00,0.7""",
        "traces",
        {
            "input": ("Question", T.TEXT),
            "output": ("Answer", T.TEXT),
            "arm": ("Variant", T.TEXT),
            "started_at": ("Started", T.TIME_MDY),
            "duration_seconds": ("Elapsed Seconds", T.SECONDS),
        },
    ),
    "thumbs": File(
        """trace_id,user,feedback,comment,submitted_at
cfcd208495d565ef66e7dff9f98764da,u1,👍,great,2026-01-05 10:00:00
c4ca4238a0b923820dcc509a6f75849b,u2,👎,,2026-01-05 11:00:00""",
        "signals",
        {
            "trace_id": ("trace_id", T.TEXT),
            "user_id": ("user", T.TEXT),
            "kind": ("thumb", T.SIGNAL_KIND),
            "value": ("feedback", T.THUMB),
            "text": ("comment", T.TEXT),
            "occurred_at": ("submitted_at", T.TIME_AUTO),
        },
    ),
    "votes of +1 and -1": File(
        """message_id,vote,voter
m1,1,u1
m2,-1,u2
m3,1,u3""",
        "signals",
        {
            "trace_id": ("message_id", T.TEXT),
            "kind": ("thumb", T.SIGNAL_KIND),
            "value": ("vote", T.THUMB),
            "user_id": ("voter", T.TEXT),
        },
    ),
    "stars with days first": File(
        """customer_id,conversation_id,stars,review_text,date
1,c1,5,loved it,13/01/2026
2,c2,1,meh,14/01/2026
3,c3,4,,15/01/2026""",
        "signals",
        {
            "user_id": ("customer_id", T.TEXT),
            "session_id": ("conversation_id", T.TEXT),
            "kind": ("rating", T.SIGNAL_KIND),
            "value": ("stars", T.RATING_1_5),
            "text": ("review_text", T.TEXT),
            "occurred_at": ("date", T.TIME_DMY),
        },
    ),
    "nps survey": File(
        """respondent,nps,verbatim,completed
r1,9,fine,2026-01-05
r2,3,bad,2026-01-06
r3,10,,2026-01-06""",
        "signals",
        {
            "user_id": ("respondent", T.TEXT),
            "kind": ("rating", T.SIGNAL_KIND),
            "value": ("nps", T.RATING_0_10),
            "text": ("verbatim", T.TEXT),
            "occurred_at": ("completed", T.TIME_AUTO),
        },
    ),
    "scores of a judge": File(
        """run_id,metric,score,explanation,judge_model,created_at
r1,faithfulness,0.85,ok,gpt-4o,2026-01-05T10:00:00Z
r2,faithfulness,0.4,no,gpt-4o,2026-01-05T10:00:00Z""",
        "signals",
        {
            "trace_id": ("run_id", T.TEXT),
            "kind": ("judge", T.SIGNAL_KIND),
            "name": ("metric", T.TEXT),
            "value": ("score", T.RATING_0_1),
            "text": ("explanation", T.TEXT),
            "annotator_id": ("judge_model", T.TEXT),
            "occurred_at": ("created_at", T.TIME_AUTO),
        },
    ),
    "purchases": File(
        """customer,product,price,purchased_at
c1,shoe,$59.99,2026-01-05
c2,hat,"$1,019.00",2026-01-06""",
        "signals",
        {
            "user_id": ("customer", T.TEXT),
            "kind": ("purchase", T.SIGNAL_KIND),
            "item": ("product", T.TEXT),
            "value": ("price", T.USD),
            "occurred_at": ("purchased_at", T.TIME_AUTO),
        },
    ),
    "event log": File(
        """event_id,event_type,uid,sku,ts,rank
e1,impression,u1,p1,2026-01-05T10:00:00+02:00,1
e2,click,u1,p1,2026-01-05T10:00:03+02:00,1
e3,purchase,u1,p1,2026-01-05T10:10:00+02:00,2""",
        "signals",
        {
            "signal_id": ("event_id", T.TEXT),
            "kind": ("event_type", T.SIGNAL_KIND),
            "user_id": ("uid", T.TEXT),
            "item": ("sku", T.TEXT),
            "occurred_at": ("ts", T.TIME_AUTO),
            "position": ("rank", T.INTEGER),
        },
    ),
    "contextual bandit log": File(
        """context,action,reward,pscore
"{""age"": 31}",a1,0,0.5
"{""age"": 42}",a2,1,0.5""",
        "signals",
        {
            "metadata": ("context", T.JSON),
            "item": ("action", T.TEXT),
            "kind": ("outcome", T.SIGNAL_KIND),
            "value": ("reward", T.NUMBER),
            "propensity": ("pscore", T.NUMBER),
        },
    ),
    "clicks with positions from 0": File(
        """user_id,item_id,position,clicked,time,propensity
u1,sku-1,0,0,1767225600,0.25
u1,sku-2,1,1,1767225600,0.25
u2,sku-3,2,0,1767225601,0.5""",
        "impressions",
        {
            "user_id": ("user_id", T.TEXT),
            "item": ("item_id", T.TEXT),
            "position": ("position", T.POSITION_FROM_ZERO),
            "clicked": ("clicked", T.BOOLEAN),
            "occurred_at": ("time", T.TIME_SECONDS),
            "propensity": ("propensity", T.NUMBER),
        },
    ),
    "tool steps": File(
        """trace_id,span_id,parent_id,type,name,start_time,end_time,status,tool_input,result
cfcd208495d565ef66e7dff9f98764da,cfcd208495d565ef,,agent,run,2026-01-05T10:00:00Z,2026-01-05T10:00:05Z,OK,x,y
cfcd208495d565ef66e7dff9f98764da,c4ca4238a0b92382,cfcd208495d565ef,tool,find,2026-01-05T10:00:01Z,,ERROR,q,""",
        "spans",
        {
            "trace_id": ("trace_id", T.TEXT),
            "span_id": ("span_id", T.TEXT),
            "parent_span_id": ("parent_id", T.TEXT),
            "kind": ("type", T.SPAN_KIND),
            "name": ("name", T.TEXT),
            "started_at": ("start_time", T.TIME_AUTO),
            "ended_at": ("end_time", T.TIME_AUTO),
            "status": ("status", T.STATUS),
            "input": ("tool_input", T.TEXT),
            "output": ("result", T.TEXT),
        },
    ),
    "runs in the style of LangSmith": File(
        """id,trace_id,parent_run_id,run_type,name,start_time,inputs,outputs,error,total_cost
1,t1,,chain,main,2026-01-01T00:00:00,"{""q"":1}","{""a"":1}",,0.1
2,t1,1,llm,call,2026-01-01T00:00:00,"{""q"":1}","{""a"":1}",boom,0.1""",
        "spans",
        {
            "trace_id": ("trace_id", T.TEXT),
            "span_id": ("id", T.TEXT),
            "parent_span_id": ("parent_run_id", T.TEXT),
            "kind": ("run_type", T.SPAN_KIND),
            "name": ("name", T.TEXT),
            "started_at": ("start_time", T.TIME_AUTO),
            "input": ("inputs", T.TEXT),
            "output": ("outputs", T.TEXT),
            "status_message": ("error", T.TEXT),
            "cost_usd": ("total_cost", T.USD),
        },
    ),
}


def guess_text(text: str, kind: Kind | None = None) -> tuple[list[str], Guess]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    rows = [{name: cell or None for name, cell in row.items()} for row in reader]
    columns = list(reader.fieldnames or [])
    return columns, guess(columns, rows, source="test", kind=kind)


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_realistic_files(file: File) -> None:
    columns, guessed = guess_text(file.text)
    found = {rule.target: (rule.column or rule.constant, rule.transform) for rule in guessed.mapping.rules}
    assert (guessed.mapping.kind, found) == (file.kind, file.rules)
    assert guessed.unmapped == tuple(file.unmapped)
    assert problems(guessed.mapping, columns) == []
    assert [note.rule for note in guessed.notes] == list(guessed.mapping.rules)
    assert all(0 < note.confidence <= 1 and note.reason.endswith(".") for note in guessed.notes)
    assert guessed.usable
    assert 0 < guessed.confidence <= 1
    assert guessed.reason.endswith(".")


def test_open_bandit_data(shared_data: Path) -> None:
    with gzip.open(shared_data / "obd_small" / "bts_men.csv.gz", "rt") as stream:
        columns, guessed = guess_text("".join(itertools.islice(stream, 200)))
    assert guessed.mapping.kind == "impressions"
    assert {(rule.target, rule.column, rule.transform) for rule in guessed.mapping.rules} == {
        ("occurred_at", "timestamp", T.TIME_AUTO),
        ("item", "item_id", T.TEXT),
        ("position", "position", T.INTEGER),
        ("clicked", "click", T.BOOLEAN),
        ("propensity", "propensity_score", T.NUMBER),
    }
    assert set(guessed.unmapped) == set(columns) - set(guessed.mapping.columns())


def test_answers_with_feedback_are_traces_with_a_companion() -> None:
    columns, guessed = guess_text(
        "question,answer,thumbs,ts\nWhere?,Here,up,1767225600123\nWhen?,Now,down,1767225700456"
    )
    assert guessed.mapping.kind == "traces"
    assert [alternative.kind for alternative in guessed.alternatives] == ["signals"]
    assert guessed.companion is not None
    assert problems(guessed.companion, columns) == []
    assert {(rule.target, rule.column, rule.transform, rule.constant) for rule in guessed.companion.rules} == {
        ("trace_id", None, T.ROW_ID, None),
        ("kind", None, T.SIGNAL_KIND, "thumb"),
        ("value", "thumbs", T.THUMB, None),
        ("occurred_at", "ts", T.TIME_MILLISECONDS, None),
    }
    _, without = guess_text("question,answer\nWhere?,Here")
    assert without.companion is None


def test_the_operator_may_decide_the_kind() -> None:
    for kind in KINDS:
        _, guessed = guess_text(FILES["tool steps"].text, kind)
        assert guessed.mapping.kind == kind
        assert kind not in [alternative.kind for alternative in guessed.alternatives]


@pytest.mark.parametrize("kind", LAYOUTS)
def test_own_layouts_map_to_themselves_even_without_rows(kind: Kind) -> None:
    names = [column.name for column in LAYOUTS[kind]]
    guessed = guess(names, [])
    assert guessed.mapping.kind == kind
    assert set(guessed.mapping.rules) == set(identity(kind, names, "upload").rules)
    assert guessed.unmapped == ()


def test_own_names_keep_their_place_when_some_cells_are_bad() -> None:
    rows = ["t1,hi,ho,2026-01-01,12,ok", "t2,hi,ho,soon,many,ok", "t3,hi,ho,later,3.5,odd"]
    _, guessed = guess_text("\n".join(["trace_id,input,output,started_at,input_tokens,status", *rows]))
    assert [(rule.target, rule.column) for rule in guessed.mapping.rules] == [
        (name, name) for name in ("trace_id", "started_at", "status", "input", "output", "input_tokens")
    ]
    assert min(note.confidence for note in guessed.notes) == 0.5


@pytest.mark.parametrize(
    ("column", "values", "target", "transform"),
    [
        ("ts", ["1767225600"] * 3, "occurred_at", T.TIME_SECONDS),
        ("ts", ["1767225600.25"] * 3, "occurred_at", T.TIME_SECONDS),
        ("ts", ["1767225600123"] * 3, "occurred_at", T.TIME_MILLISECONDS),
        ("ts", ["1767225600123456"] * 3, "occurred_at", T.TIME_MICROSECONDS),
        ("ts", ["1767225600123456789"] * 3, "occurred_at", T.TIME_NANOSECONDS),
        ("ts", ["01/02/2026", "03/04/2026"], "occurred_at", T.TIME_AUTO),
        ("ts", ["soon", "later"], "occurred_at", None),
        ("ts", ["12", "13"], "occurred_at", None),
        ("rank", ["1", "2", "3"], "position", T.INTEGER),
        ("rank", ["0", "1", "2"], "position", T.POSITION_FROM_ZERO),
        ("rank", ["1", "2", "1", "2", "0", "1", "3"], "position", T.INTEGER),
        ("rank", ["left", "right"], "position", None),
        ("prob", ["0.5", "1"], "propensity", T.NUMBER),
        ("prob", ["50", "100"], "propensity", None),
        ("helpful", ["yes", "no"], "value", T.THUMB),
        ("helpful", ["1", "0"], "value", T.THUMB),
        ("rating", ["1", "0"], "value", T.RATING_0_1),
        ("rating", ["-1", "0", "1"], "value", T.RATING_MINUS_1_1),
        ("rating", ["1", "5", "4.5"], "value", T.RATING_1_5),
        ("rating", ["0", "5"], "value", T.RATING_0_5),
        ("rating", ["2", "9"], "value", T.RATING_1_10),
        ("rating", ["0", "9"], "value", T.RATING_0_10),
        ("rating", ["20", "95"], "value", T.RATING_0_100),
        ("rating", ["0.25", "1"], "value", T.RATING_0_1),
        ("rating", ["1200", "95"], "value", T.NUMBER),
        ("rating", ["fine", "awful"], "value", None),
        ("amount", ["$5.00", "$1,200"], "value", T.USD),
        ("amount", ["5.00", "12"], "value", T.NUMBER),
    ],
)
def test_values_choose_the_transform_or_veto(
    column: str, values: list[str], target: str, transform: Transform | None
) -> None:
    guessed = guess([column], [{column: value} for value in values], kind="signals")
    rule = guessed.mapping.rule(target)
    assert (rule.transform if rule is not None else None) == transform


@pytest.mark.parametrize(
    ("column", "values", "transform"),
    [
        ("latency", ["1.5", "0.2"], T.SECONDS),
        ("latency", ["1500", "230"], T.MILLISECONDS),
        ("latency_s", ["1500", "230"], T.SECONDS),
        ("duration_ms", ["1", "2"], T.MILLISECONDS),
        ("response_time", ["slow", "fast"], None),
    ],
)
def test_units_of_durations(column: str, values: list[str], transform: Transform | None) -> None:
    rows: list[dict[str, str | None]] = [{column: value, "ts": "2026-01-01"} for value in values]
    rule = guess([column, "ts"], rows, kind="traces").mapping.rule("duration_seconds")
    assert (rule.transform if rule is not None else None) == transform
    assert guess([column], rows, kind="traces").mapping.rule("duration_seconds") is None


def test_ambiguous_dates_say_so() -> None:
    guessed = guess(["ts", "vote"], [{"ts": "01/02/2026", "vote": "up"}])
    note = next(each for each in guessed.notes if each.target == "occurred_at")
    assert note.confidence < 0.5
    assert "time_mdy or time_dmy" in note.reason


def test_ids_of_32_digits_under_an_unknown_name_are_trace_ids() -> None:
    ids = ["cfcd208495d565ef66e7dff9f98764da", "c4ca4238a0b923820dcc509a6f75849b"]
    guessed = guess(["answer_ref", "vote"], [{"answer_ref": each, "vote": "up"} for each in ids])
    assert guessed.mapping.rule("trace_id") is not None
    features = guess(["user_feature", "click"], [{"user_feature": each, "click": "0"} for each in ids])
    assert features.unmapped == ("user_feature",)


def test_samples_may_hold_typed_values() -> None:
    row = {
        "ts": datetime(2026, 1, 1, tzinfo=UTC),
        "liked": True,
        "n": 0.5,
        "metadata": {"a": [1]},
        "user": 7,
        "x": None,
    }
    guessed = guess(list(row), [row])
    assert {(rule.target, rule.column, rule.transform) for rule in guessed.mapping.rules} == {
        ("occurred_at", "ts", T.TIME_AUTO),
        ("value", "liked", T.THUMB),
        ("kind", None, T.SIGNAL_KIND),
        ("metadata", "metadata", T.JSON),
        ("user_id", "user", T.TEXT),
    }


def test_nothing_known_is_admitted() -> None:
    _, guessed = guess_text("a,b,c\n1,x,2\n2,y,3")
    assert guessed.confidence < 0.3
    assert not guessed.usable
    assert guessed.mapping.rules == ()
    assert guessed.unmapped == ("a", "b", "c")
    assert guess([], []).mapping.rules == ()


texts = st.none() | st.text(max_size=10) | st.sampled_from(["1", "0", "nan", "1e999", "2026-01-01", "up", "{", "0.5"])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_file_gets_a_consistent_guess(data: st.DataObject) -> None:
    known = [name for kind in KINDS for name in TARGETS[kind]]
    names = st.text(max_size=6) | st.sampled_from(["id", "ts", "click", "score", "prompt", *known])
    columns = data.draw(st.lists(names, max_size=8, unique=True))
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(columns, texts)), max_size=5))
    kind = data.draw(st.none() | st.sampled_from(KINDS))
    guessed = guess(columns, rows, kind=kind)
    mapping = guessed.mapping
    read = [rule.column for rule in mapping.rules if rule.column is not None]
    assert len(set(read)) == len(read)
    assert sorted([*read, *guessed.unmapped]) == sorted(columns)
    for rule in mapping.rules:
        assert rule.transform in TRANSFORMS_FOR[TARGETS[mapping.kind][rule.target].type]
    for complaint in problems(mapping, columns):
        assert complaint.startswith(("It has no rules", "No rule fills"))
    if guessed.companion is not None:
        assert problems(guessed.companion, columns) == []
