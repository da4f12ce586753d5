"""Lessons that say the same, or the opposite, to the same requests."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from pipelines.lessons.distil.check import check
from pipelines.lessons.distil.config import DistilConfig
from pipelines.lessons.distil.lesson import SERVED, WAITING, Lesson, rank
from pipelines.lessons.distil.proposal import Proposal
from pipelines.lessons.lint.contradiction import conflicting
from pipelines.lessons.lint.polarity import claims
from pipelines.lessons.similarity import Similarity, joined

__all__ = ["Refused", "conflicts", "merges", "repeats"]

Refused = list[str]
_ENDED = "retired"


def merges(
    lessons: Sequence[Lesson], alike: Similarity, config: DistilConfig, gone: set[str], refused: Refused
) -> Iterator[Proposal]:
    """One merge for each group of lessons of one scope that are the same, also through others, and do not conflict.

    Groups are the connected components of pairs with a cosine of at least `duplicate`, or with the same words; lessons
    that are to go anyhow (`gone`) are left out. The one worth keeping (`rank`) stays as it is. Where it does not hold
    on the supporting traces of all, nothing is proposed and `refused` says so.
    """
    live = [
        place for place, one in enumerate(lessons) if one.state in (*SERVED, *WAITING) and one.lesson_id not in gone
    ]
    pairs = {(i, j): cosine for i, j, cosine in _pairs(lessons, live, alike, config.duplicate)}
    for group in joined(len(lessons), sorted(pairs)):
        members = sorted((lessons[place] for place in group), key=rank)
        keep, others = members[0], members[1:]
        exact = all(one.words == keep.words for one in others)
        result = check(keep, members)
        if result.verdict == "fails":
            refused.append(f"{keep.lesson_id} could not stand for {', '.join(_ids(others))}: {result.why}")
            continue
        cosines = dict(_cosines(lessons, group, keep, alike))
        links = [max(c for pair, c in pairs.items() if place in pair) for place in group]
        what = "say the same in the same words" if exact else f"are alike (cosine {min(links):.2f} or more)"
        yield Proposal(
            kind="merge",
            cause="exact" if exact else "near",
            keep=keep,
            members=tuple((one, cosines[one.lesson_id]) for one in others),
            reason=f"{len(members)} lessons {what}; {keep.title!r} is kept for {_kept_for(keep)}.",
            similarity=min(links),
            method=alike.method if alike.reason is None else f"{alike.method}: {alike.reason}",
            checked=result,
        )


def conflicts(
    lessons: Sequence[Lesson], alike: Similarity, when: Similarity, config: DistilConfig
) -> Iterator[Proposal]:
    """Served lessons of one scope that tell the opposite under a like condition: the one worth less is to go."""
    live = [place for place, one in enumerate(lessons) if one.state in SERVED]
    whole = {(i, j): cosine for i, j, cosine in _near(lessons, live, alike, config.duplicate)}
    for i, j in sorted(_disputed(lessons, live) | set(whole)):
        same = (i, j) in whole
        if not same and when.between(i, j) < config.conflict:
            continue
        why = _opposite(lessons[i], lessons[j], alike=same)
        if why is not None:
            keep, other = sorted((lessons[i], lessons[j]), key=rank)
            yield Proposal(
                kind="retire",
                cause="conflict",
                keep=keep,
                members=((other, whole.get((i, j))),),
                reason=f"{keep.title!r} and {other.title!r} conflict: {why}. The first has {_kept_for(keep)}.",
                similarity=whole.get((i, j)),
                method=alike.method,
            )


def repeats(lessons: Sequence[Lesson], alike: Similarity, config: DistilConfig) -> Iterator[Proposal]:
    """Stop rule: a waiting lesson that says again what was served on the same scope without doing better.

    One more lesson will not help there (LESSONS 0.4): a tool may be missing, the reward wrong or the task impossible.
    """
    waiting = [place for place, one in enumerate(lessons) if one.state in WAITING]
    spent = [place for place, one in enumerate(lessons) if _without_effect(one, config)]
    found: dict[int, tuple[float, int]] = {}
    for i, j, cosine in _near(lessons, [*waiting, *spent], alike, config.duplicate):
        for new, old in ((i, j), (j, i)):
            if new in waiting and old in spent:
                found[new] = max(found.get(new, (0.0, 0)), (cosine, -old))
    for new, (cosine, old) in sorted(found.items()):
        earlier = lessons[-old]
        yield Proposal(
            kind="escalate",
            cause="repeats",
            keep=None,
            members=((lessons[new], cosine),),
            reason=(
                f"{lessons[new].title!r} repeats lesson {earlier.lesson_id} (cosine {cosine:.2f}), which did not help"
                f"{_measured(earlier)}. Somebody should look at the task itself: a tool may be missing, the reward "
                "wrong, or the task impossible."
            ),
            similarity=cosine,
            method=alike.method,
        )


def _pairs(
    lessons: Sequence[Lesson], live: list[int], alike: Similarity, threshold: float
) -> Iterator[tuple[int, int, float]]:
    """Pairs of one scope that are the same and do not conflict."""
    seen = set()
    for i, j, cosine in _near(lessons, live, alike, threshold):
        seen.add((i, j))
        if _opposite(lessons[i], lessons[j], alike=True) is None:
            yield i, j, cosine
    # Texts of common words alone have no vectors and can still be the same.
    same: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for place in live:
        same[(*lessons[place].scope, lessons[place].words)].append(place)
    for places in same.values():
        for one in places[1:]:
            if (places[0], one) not in seen:
                yield places[0], one, 1.0


def _near(
    lessons: Sequence[Lesson], live: list[int], alike: Similarity, threshold: float
) -> Iterator[tuple[int, int, float]]:
    wanted = set(live)
    for i, j, cosine in alike.pairs(threshold):
        if i in wanted and j in wanted and lessons[i].scope == lessons[j].scope:
            yield i, j, cosine


def _disputed(lessons: Sequence[Lesson], live: list[int]) -> set[tuple[int, int]]:
    """Pairs of one scope of which one tells to use a tool that the other avoids, or orders two the other way round."""
    said: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for place in live:
        told = claims(f"{lessons[place].title}. {lessons[place].do_text}")
        for key in (*((name, True) for name in told.use), *((name, False) for name in told.avoid), *told.orders):
            said[(*lessons[place].scope, *key)].append(place)
    pairs = set()
    for (*scope, first, second), places in said.items():
        opposite = (first, not second) if isinstance(second, bool) else (second, first)
        for i in places:
            pairs |= {(min(i, j), max(i, j)) for j in said.get((*scope, *opposite), ()) if i != j}
    return pairs


def _opposite(one: Lesson, other: Lesson, *, alike: bool) -> str | None:
    if one.words == other.words:
        return None
    left, right = ({"title": lesson.title, "do_text": lesson.do_text} for lesson in (one, other))
    return conflicting(left, right, alike=alike)


def _cosines(
    lessons: Sequence[Lesson], group: list[int], keep: Lesson, alike: Similarity
) -> Iterator[tuple[str, float | None]]:
    kept = next(place for place in group if lessons[place].lesson_id == keep.lesson_id)
    for place in group:
        yield lessons[place].lesson_id, alike.between(kept, place)


def _without_effect(one: Lesson, config: DistilConfig) -> bool:
    """Served long enough without being better, or retired: either way the words were tried."""
    if one.state == _ENDED:
        return one.payoff is not None and one.payoff.verdict != "better"
    if one.state not in SERVED or one.payoff is None:
        return False
    return one.payoff.verdict != "better" and one.payoff.decisions >= config.enough_decisions


def _kept_for(one: Lesson) -> str:
    parts = []
    if one.payoff is not None and one.payoff.effect is not None:
        parts.append(f"a payoff of {one.payoff.effect:+.3f} ({one.payoff.verdict})")
    parts.append(f"{len(one.evidence)} traces of evidence")
    return " and ".join(parts)


def _measured(one: Lesson) -> str:
    if one.payoff is None or one.payoff.effect is None:
        return ""
    return f" ({one.payoff.verdict}, effect {one.payoff.effect:+.3f} after {one.payoff.decisions:,} decisions)"


def _ids(lessons: Sequence[Lesson]) -> list[str]:
    return [one.lesson_id for one in lessons]
