"""How far a text can be trusted: the least over everything that it was made of.

Information flow as in a lattice (Denning 1976, "A lattice model of secure information flow"): a text is never more
trustworthy than the least of its sources, and nothing but a person's own words raises it again.
"""

from collections.abc import Mapping, Sequence

from pipelines.lessons.lint.taint import Taint, remaining
from store.lesson_versions import TRUSTS, LessonText, least

__all__ = ["BY_ORIGIN", "TRUSTS", "after_edit", "least", "lineage"]

# What a text of this origin is trusted without anything tainted in it.
BY_ORIGIN = {"contrast": "system", "model": "model", "operator": "operator", "agent": "agent"}


def lineage(node: str, trusts: Mapping[str, str | None], parents: Mapping[str, Sequence[str]]) -> str:
    """The least trust of a version and of all its ancestors, whatever circles their records may hold.

    Keys are "lesson_id:version"; an ancestor that is not in `trusts` counts as untrusted.
    """
    seen: set[str] = set()
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting.extend(parents.get(current, ()))
    return least([trusts.get(one) for one in seen])


def after_edit(
    trust: str | None, tainted: Sequence[Taint], text: LessonText, *, editor: str = "operator", origin: str = "model"
) -> tuple[str, tuple[Taint, ...]]:
    """Trust and taint of a version that `editor` wrote over one of this trust and taint.

    Every tainted quote of which words still stand in the text stays, and with one the text is untrusted. With none
    left, what was untrusted for its taint is as good as a text of its `origin` (`BY_ORIGIN`), and never better than its
    editor. A text that is untrusted without any taint stays so: nobody can say what of it has gone.
    """
    left = remaining(text, tainted)
    if left:
        return "untrusted", left
    before = least([trust])
    if before == "untrusted" and tainted:
        before = BY_ORIGIN.get(origin, "untrusted")
    return least([before, editor]), ()
