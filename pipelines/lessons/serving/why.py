"""Why a request got a lesson, or did not: answered from the log, and for lessons that it does not name by choosing
again from the version of the playbook that was in force.

The choice depends on the input, of which only a hash is logged. Where no trace of the decision states that very input,
the nearest thing is one that it does state, and the answer says so (`Explained.input_known`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.lessons.serving.choose import Chooser, Request, chooser
from pipelines.lessons.serving.holdout import draw, empty_draw
from pipelines.lessons.serving.match import HOLDS_FROM, judged
from pipelines.lessons.serving.words import distinct
from pipelines.steering.asked import found, request_of
from store import decisions, exposures, lesson_sets, lessons, playbooks, policies
from store.connection import Store
from store.errors import NotFound
from store.policy import Arm

__all__ = ["Explained", "Reason", "why"]


@dataclass(frozen=True)
class Reason:
    """What became of one lesson in one decision. `outcome` is one of served, withheld, empty, over_budget (as logged);
    served_whole, no_playbook, not_in_playbook, expired, out_of_scope, forbidden, not_matched, expected_harm, repeated,
    unknown (worked out again); `text` says it in a sentence."""

    lesson_id: str
    title: str
    outcome: str
    text: str


@dataclass(frozen=True)
class Explained:
    """`reasons`, those in the log first; `playbook_version` that was in force, None for none; `input_known`: what the
    lessons were matched with is known exactly."""

    decision_id: str
    agent: str
    playbook_version: int | None
    input_known: bool
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class _Case:
    """A decision with what its lessons are worked out from."""

    row: Mapping[str, Any]
    choosing: Chooser
    request: Request


def why(store: Store, decision_id: str, lesson_id: str | None = None) -> Explained:
    """Why a decision served one lesson or not; without `lesson_id`, every lesson of the playbook that was in force.

    Raises: `NotFound` for an unknown decision or lesson.
    """
    row = decisions.one(store, decision_id)
    if row is None:
        raise NotFound("decision", decision_id)
    if lesson_id is not None:
        lessons.one(store, lesson_id)
    version = row["playbook_version"]
    if version is None:
        named = [lesson_id] if lesson_id is not None else []
        told = tuple(_without_playbook(store, row, each) for each in named)
        return Explained(decision_id, row["agent"], None, True, told)
    text, known = _input(store, row)
    case = _case(store, row, text)
    logged = {each["lesson_id"]: each for each in row["exposures"]}
    asked = [lesson_id] if lesson_id is not None else [*logged, *_others(case.choosing, logged)]
    chosen, _ = case.choosing.select(case.request, case.choosing.matcher.matches(text))
    reasons = tuple(
        _from_log(case, logged[each]) if each in logged else _again(store, case, each, chosen, known) for each in asked
    )
    return Explained(decision_id, row["agent"], version, known, reasons)


def _input(store: Store, row: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The input of a decision, and whether it is that very one."""
    if row["input_hash"] is None:
        return None, True
    stated = exposures.inputs(store, [row["decision_id"]])["input"].to_list()
    exact = found(row["input_hash"], stated)
    return (exact, True) if exact is not None else (next(iter(stated), None), False)


def _case(store: Store, row: Mapping[str, Any], text: str | None) -> _Case:
    policy = policies.described(store, row["agent"], row["policy_version"])
    request = request_of(row, text, policy["salt"], [Arm(**each) for each in policy["arms"]])
    return _Case(row, chooser(lesson_sets.at(store, row["agent"], row["playbook_version"])), request)


def _others(choosing: Chooser, logged: Iterable[str]) -> list[str]:
    named = set(logged)
    return [lesson.lesson_id for lesson in choosing.lessons if lesson.lesson_id not in named]


def _without_playbook(store: Store, row: Mapping[str, Any], lesson_id: str) -> Reason:
    """Of a decision that chose from no playbook: its agent had none, or served one block to everyone."""
    title = lessons.one(store, lesson_id)["title"]
    policy = policies.described(store, row["agent"], row["policy_version"])
    if lesson_id in policy["lesson_ids"]:
        return Reason(lesson_id, title, "served_whole", "Served: the whole playbook went to every request then.")
    return Reason(lesson_id, title, "no_playbook", f"{row['agent']} had no playbook to choose lessons from then.")


def _from_log(case: _Case, logged: Mapping[str, Any]) -> Reason:
    """What the log says of a lesson."""
    lesson_id, status, row = logged["lesson_id"], logged["status"], case.row
    place = case.choosing.place_of(lesson_id)
    title = case.choosing.lessons[place].title if place is not None else ""
    served = logged["served_probability"]
    match status:
        case "served":
            text = f"Served, with a probability of {served:.1%}; its match with the request was {logged['match']:.2f}."
        case "withheld":
            drawn = draw(case.request.salt, row["agent"], lesson_id, row["unit"])
            holdout = 1.0 - served / (1.0 - row["empty_probability"])
            text = (
                f"Chosen, then withheld at random to measure what it pays: its draw for this {_unit(row)} was "
                f"{drawn:.4f}, below its holdout of {holdout:.1%}."
            )
        case "empty":
            drawn = empty_draw(case.request.salt, row["agent"], row["unit"])
            text = (
                f"Chosen, but this {_unit(row)} is one of the {row['empty_probability']:.1%} that get no lesson at "
                f"all, to compare with: its draw was {drawn:.4f}."
            )
        case _:
            text = _no_room(case, logged["tokens"])
    return Reason(lesson_id, title, status, text)


def _again(store: Store, case: _Case, lesson_id: str, chosen: list[int], known: bool) -> Reason:
    """Why the log does not name a lesson."""
    place = case.choosing.place_of(lesson_id)
    if place is None:
        return _absent(store, case.row, lesson_id)
    lesson, request = case.choosing.lessons[place], case.request
    if lesson.expires_at is not None and lesson.expires_at <= request.now:
        return Reason(
            lesson_id, lesson.title, "expired", f"It expired on {lesson.expires_at:%Y-%m-%d %H:%M} UTC, before this."
        )
    apart = [
        f"{what} {wanted!r}, and the request {f'is of {came!r}' if came is not None else 'named none'}"
        for what, wanted, came in (
            ("task", lesson.task, request.task),
            ("segment", lesson.segment, request.segment),
            ("user", lesson.user_id, request.user_id),
        )
        if wanted is not None and wanted != came
    ]
    if apart:
        return Reason(lesson_id, lesson.title, "out_of_scope", f"It is for {'; for '.join(apart)}.")
    if request.segment is not None and request.segment in lesson.not_segments:
        told = f"It was paused for the segment {request.segment!r}, to which the request belongs."
        return Reason(lesson_id, lesson.title, "out_of_scope", told)
    if lesson_id in request.forbid:
        return Reason(lesson_id, lesson.title, "forbidden", f"The arm {case.row['arm']!r} goes without it.")
    return _not_chosen(case, place, chosen, known)


def _not_chosen(case: _Case, place: int, chosen: list[int], known: bool) -> Reason:
    """Why a lesson of the scope was not chosen."""
    choosing, request = case.choosing, case.request
    lesson = choosing.lessons[place]
    if float(choosing.matcher.matches(request.input)[place]) <= 0.0:
        words = distinct(request.input or "")
        share = float(choosing.matcher.coverage(words)[place])
        named = ", ".join(sorted({*judged(lesson)} & words)[:5])
        text = (
            f"Its condition did not hold: the request names {share:.0%} of its words{f' ({named})' if named else ''}, "
            f"and {HOLDS_FROM:.0%} are needed."
        )
        if not known:
            text += " The input is not known exactly; this is from what a trace of the decision states."
        return Reason(lesson.lesson_id, lesson.title, "not_matched", text)
    if choosing.worth[place] <= 0.0:
        told = f"{lesson.payoff:+.3f}" if lesson.payoff is not None else "unmeasured"
        return Reason(
            lesson.lesson_id, lesson.title, "expected_harm", f"It is expected to harm: its measured payoff is {told}."
        )
    same = next((each for each in chosen if each != place and choosing.repeats(place, each)), None)
    if same is not None:
        other = choosing.lessons[same]
        return Reason(
            lesson.lesson_id, lesson.title, "repeated", f"It says the same as {other.lesson_id}, which was chosen."
        )
    if known:
        return Reason(lesson.lesson_id, lesson.title, "over_budget", _no_room(case, int(choosing.tokens[place])))
    return Reason(
        lesson.lesson_id, lesson.title, "unknown",
        "It was not among the candidates. Why cannot be told: no trace states the input that the request came with.",
    )  # fmt: skip


def _no_room(case: _Case, tokens: int) -> str:
    before = [each for each in case.row["exposures"] if each["status"] != "over_budget"]
    named = ", ".join(each["lesson_id"] for each in before[:5])
    more = f" and {len(before) - 5} more" if len(before) > 5 else ""
    spent = sum(each["tokens"] for each in before)
    return (
        f"There was no room for its {tokens} tokens: {spent} of {case.choosing.budget} went to lessons that pay more "
        f"for theirs{f' ({named}{more})' if named else ''}."
    )


def _absent(store: Store, row: Mapping[str, Any], lesson_id: str) -> Reason:
    """Why a lesson was not in the playbook that was in force."""
    lesson = lessons.one(store, lesson_id)
    book = playbooks.at(store, row["agent"], row["playbook_version"])
    where = f"It was not in version {book.version} of the playbook, which was in force"
    if lesson["agent"] not in ("*", row["agent"]):
        text = f"{where}: it is for the agent {lesson['agent']!r}."
    elif book.settings.off is not None:
        text = f"{where}: serving was switched off ({book.settings.off})."
    elif lesson_id in book.settings.left_out:
        text = f"{where}: {book.settings.left_out[lesson_id]}."
    elif lesson.get("paused"):
        text = f"{where}; it is paused now ({lesson['paused']})."
    elif book.settings.pinned is not None:
        text = f"{where} and repeats the earlier version {book.settings.pinned}; the lesson is {lesson['state']} now."
    else:
        text = f"{where}; the lesson is {lesson['state']} now."
    return Reason(lesson_id, lesson["title"], "not_in_playbook", text)


def _unit(row: Mapping[str, Any]) -> str:
    return "session" if row["session_id"] is not None else "request"
