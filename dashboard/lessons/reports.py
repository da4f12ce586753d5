"""What an action on a lesson did, in a sentence or two."""

from collections.abc import Mapping
from typing import Final

from store.lesson_reviews import Reviewed

__all__ = ["PAST", "playbooks_now", "report"]

PAST: Final = {
    "approve": "approved", "reject": "rejected", "send_back": "sent back", "edit": "edited", "promote": "promoted",
    "demote": "demoted", "pause": "paused", "resume": "resumed", "retire": "retired", "supersede": "superseded",
    "graduate": "graduated", "undo": "taken back",
}  # fmt: skip


def report(done: Reviewed) -> str:
    """The lesson's state now, and which playbooks changed."""
    said = PAST.get(done.action, done.action).capitalize()
    text = f"{said}: the lesson is {done.state}, at version {done.version}."
    if done.action == "approve" and done.state == "approved":
        return f"{text} A second person has to approve it before agents get it."
    if done.playbooks:
        return f"{text} {playbooks_now(done.playbooks)}"
    if done.state in ("canary", "active"):
        text += f" The playbook of {done.agent} did not change."
    return text


def playbooks_now(made: Mapping[str, int]) -> str:
    """At which version the playbook of each agent is, by agent; empty for none."""
    if not made:
        return ""
    named = [f"{agent} is at version {version}" for agent, version in sorted(made.items())]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f"The playbook of {', of '.join(named[:3])}{more} now."
