"""What operators do with lessons: approve, reject, edit, retire, and undo of the last of these.

Each is one transaction: the lesson's state or text, the review, the audit row and, where what agents are served
changes, a new version of the playbook. The caller renders the playbook (`render`), since its wording is not the
store's; it runs inside the transaction, so no lesson can change between being read and being served.

    approve   proposed, approved          -> active
    reject    proposed, approved          -> rejected     needs a reason
    edit      proposed, approved, active  -> same         a new version of the text; the old one stays
    retire    canary, active              -> retired
    undo      whatever the last review left it in -> what it was before
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

import duckdb
import polars as pl

from store import audit, meta, playbooks
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, conform, declare
from store.playbooks import Rendered

ACTIVE = declare(
    {
        "lesson_id": pl.String, "task": pl.String, "title": pl.String, "when_text": pl.String, "when_not": pl.String,
        "do_text": pl.String, "created_at": UTC_TIME,
    }
)  # fmt: skip

# Renders the active lessons of one agent (columns `ACTIVE`) into its playbook.
Render = Callable[[pl.DataFrame], Rendered]

ALLOWED: dict[str, tuple[str, ...]] = {
    "approve": ("proposed", "approved"),
    "reject": ("proposed", "approved"),
    "edit": ("proposed", "approved", "active"),
    "retire": ("canary", "active"),
}
_LEADS_TO = {"approve": "active", "reject": "rejected", "retire": "retired"}
MAX_CHARACTERS = 2_000


@dataclass(frozen=True)
class LessonText:
    """The words of a lesson that an operator may change."""

    title: str
    when_text: str
    when_not: str | None
    do_text: str


@dataclass(frozen=True)
class Reviewed:
    """What a review did. `playbook_version` is the one it made, None when what agents are served did not change."""

    lesson_id: str
    agent: str
    action: str
    state: str
    version: int
    playbook_version: int | None
    sequence: int


@dataclass(frozen=True)
class _Lesson:
    lesson_id: str
    agent: str
    state: str
    version: int


def approve(store: Store, lesson_id: str, *, version: int, operator: str, render: Render) -> Reviewed:
    """Make a proposed lesson active. `version` is the text that the operator has read.

    Raises: `NotFound`; `ActionRefused` in another state, or when the text was edited since.
    """
    return _simple(store, "approve", lesson_id, version, operator, None, render)


def reject(store: Store, lesson_id: str, *, version: int, operator: str, reason: str, render: Render) -> Reviewed:
    """Turn a proposed lesson down for good. Raises: as `approve`, and `ActionRefused` without a reason."""
    if not reason.strip():
        raise ActionRefused("Reject", "no reason was given.", "Write why, so that nobody has to ask again.")
    return _simple(store, "reject", lesson_id, version, operator, _within("reason", reason), render)


def retire(
    store: Store, lesson_id: str, *, version: int, operator: str, reason: str | None = None, render: Render
) -> Reviewed:
    """Stop serving an active lesson. Raises: as `approve`."""
    kept = _within("reason", reason) if reason and reason.strip() else None
    return _simple(store, "retire", lesson_id, version, operator, kept, render)


def edit(store: Store, lesson_id: str, *, version: int, operator: str, text: LessonText, render: Render) -> Reviewed:
    """Give a lesson a new text as its next version. Raises: as `approve`, and `ActionRefused` for an unusable text."""
    checked = _checked(text)

    def work(connection: duckdb.DuckDBPyConnection) -> Reviewed:
        lesson = _held(connection, "edit", lesson_id, version)
        if checked == _text(connection, lesson_id, lesson.version):
            raise ActionRefused("Edit", "the text is the same as before.", "Change it, or leave the lesson as it is.")
        _add_version(connection, store.clock.now(), lesson, checked, operator)
        return _settle(connection, store.clock.now(), lesson, "edit", lesson.state, operator, None, render)

    return store.write(work)


def undo(store: Store, lesson_id: str, *, sequence: int, operator: str, render: Render) -> Reviewed:
    """Take back the last review of a lesson, which is the one numbered `sequence`; what it wrote stays on record.

    Undoing an edit gives a new version with the earlier text. Raises: `NotFound`; `ActionRefused` when that review is
    not the last one, was undone already, or the lesson has moved on since.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Reviewed:
        now = store.clock.now()
        lesson = _lesson(connection, lesson_id)
        last = _last_standing(connection, lesson_id)
        if last is None or last[0] != sequence:
            raise ActionRefused(
                "Undo", "this is not the last review of the lesson any more.", "Reload the page to see what came after."
            )
        _, action, version, before = last
        if before is None or lesson.state != _LEADS_TO.get(action, before):
            raise ActionRefused("Undo", f"the lesson is {lesson.state} by now.", "Review it as it stands.")
        if action == "edit":
            _add_version(connection, now, lesson, _text(connection, lesson_id, version - 1), operator)
        return _settle(connection, now, lesson, "undo", before, operator, f"undo of {action}", render)

    return store.write(work)


def _simple(
    store: Store, action: str, lesson_id: str, version: int, operator: str, reason: str | None, render: Render
) -> Reviewed:
    """A review that moves the lesson to another state and leaves its text alone."""

    def work(connection: duckdb.DuckDBPyConnection) -> Reviewed:
        lesson = _held(connection, action, lesson_id, version)
        return _settle(connection, store.clock.now(), lesson, action, _LEADS_TO[action], operator, reason, render)

    return store.write(work)


def _settle(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    lesson: _Lesson,
    action: str,
    state: str,
    operator: str,
    reason: str | None,
    render: Render,
) -> Reviewed:
    """Write the state, the playbook, the audit row and the review."""
    version = _newest(connection, lesson.lesson_id)
    connection.execute(
        "UPDATE lessons SET state = $state, version = $version, updated_at = $now WHERE lesson_id = $lesson",
        {"state": state, "version": version, "now": now, "lesson": lesson.lesson_id},
    )
    playbook = None
    if "active" in (lesson.state, state):
        cause = f"{action} {lesson.lesson_id}"
        playbook = playbooks.append(connection, now, lesson.agent, render(_active(connection, lesson.agent)), cause)
    detail = {
        "agent": lesson.agent, "version": version, "from": lesson.state, "to": state, "reason": reason,
        "playbook_version": playbook,
    }  # fmt: skip
    sequence = audit.append(connection, now, operator, f"lesson {action}", f"lesson {lesson.lesson_id}", detail)
    connection.execute(
        """INSERT INTO lesson_reviews BY NAME
        SELECT $lesson AS lesson_id, $version AS version, $action AS action, $operator AS operator, $reason AS reason,
            $now AS reviewed_at, $before AS previous_state, $sequence AS sequence""",
        {
            "lesson": lesson.lesson_id, "version": version, "action": action, "operator": operator, "reason": reason,
            "now": now, "before": lesson.state, "sequence": sequence,
        },
    )  # fmt: skip
    meta.bump(connection)
    return Reviewed(lesson.lesson_id, lesson.agent, action, state, version, playbook, sequence)


def _held(connection: duckdb.DuckDBPyConnection, action: str, lesson_id: str, version: int) -> _Lesson:
    """The lesson if `action` is allowed in its state and `version` is its newest text."""
    lesson = _lesson(connection, lesson_id)
    if lesson.state not in ALLOWED[action]:
        raise ActionRefused(
            action.capitalize(),
            f"the lesson is {lesson.state}; only {' or '.join(ALLOWED[action])} lessons can be {_PARTICIPLE[action]}.",
            "Someone else may have reviewed it meanwhile: reload the page.",
        )
    if lesson.version != version:
        raise ActionRefused(
            action.capitalize(),
            f"you read version {version} and the text is at version {lesson.version}.",
            "Read the new text first.",
        )
    return lesson


_PARTICIPLE = {"approve": "approved", "reject": "rejected", "edit": "edited", "retire": "retired"}


def _lesson(connection: duckdb.DuckDBPyConnection, lesson_id: str) -> _Lesson:
    rows = connection.execute(
        "SELECT lesson_id, agent, state, version FROM lessons WHERE lesson_id = $lesson", {"lesson": lesson_id}
    ).fetchall()
    if not rows:
        raise NotFound("lesson", lesson_id)
    return _Lesson(*rows[0])


def _last_standing(connection: duckdb.DuckDBPyConnection, lesson_id: str) -> tuple[int, str, int, str | None] | None:
    """(sequence, action, version, previous state) of the last review that was not undone."""
    standing: list[tuple[int, str, int, str | None]] = []
    for row in connection.execute(
        """SELECT sequence, action, version, previous_state FROM lesson_reviews
        WHERE lesson_id = $lesson AND sequence IS NOT NULL ORDER BY sequence""",
        {"lesson": lesson_id},
    ).fetchall():
        if row[1] == "undo":
            standing.pop()
        else:
            standing.append(row)
    return standing[-1] if standing else None


def _active(connection: duckdb.DuckDBPyConnection, agent: str) -> pl.DataFrame:
    frame = connection.sql(
        """SELECT l.lesson_id, l.task, v.title, v.when_text, v.when_not, v.do_text, l.created_at
        FROM lessons AS l JOIN lesson_versions AS v USING (lesson_id, version)
        WHERE l.agent = $agent AND l.state = 'active' ORDER BY l.lesson_id""",
        params={"agent": agent},
    ).pl()
    return conform(frame, ACTIVE)


def _newest(connection: duckdb.DuckDBPyConnection, lesson_id: str) -> int:
    rows = connection.execute(
        "SELECT max(version) FROM lesson_versions WHERE lesson_id = $lesson", {"lesson": lesson_id}
    ).fetchall()
    return int(rows[0][0])


def _text(connection: duckdb.DuckDBPyConnection, lesson_id: str, version: int) -> LessonText:
    rows = connection.execute(
        """SELECT title, when_text, when_not, do_text FROM lesson_versions
        WHERE lesson_id = $lesson AND version = $version""",
        {"lesson": lesson_id, "version": version},
    ).fetchall()
    if not rows:
        raise NotFound("lesson version", f"{lesson_id} {version}")
    return LessonText(*rows[0])


def _add_version(
    connection: duckdb.DuckDBPyConnection, now: datetime, lesson: _Lesson, text: LessonText, operator: str
) -> None:
    """The next version of a lesson; why it was proposed is evidence and stays as it was."""
    connection.execute(
        """INSERT INTO lesson_versions BY NAME
        SELECT lesson_id, version + 1 AS version, $title AS title, $when_text AS when_text, $when_not AS when_not,
            $do_text AS do_text, why, $author AS author, $now AS created_at
        FROM lesson_versions WHERE lesson_id = $lesson AND version = $version""",
        {**asdict(text), "author": operator, "now": now, "lesson": lesson.lesson_id, "version": lesson.version},
    )


def _checked(text: LessonText) -> LessonText:
    for name in ("title", "when_text", "do_text"):
        if not getattr(text, name).strip():
            label = {"title": "title", "when_text": "when", "do_text": "do"}[name]
            raise ActionRefused("Edit", f"the field '{label}' is empty.", "Agents need a title, a when and a do.")
    when_not = (text.when_not or "").strip()
    return LessonText(
        _within("title", text.title),
        _within("when", text.when_text),
        _within("when not", when_not) if when_not else None,
        _within("do", text.do_text),
    )


def _within(field: str, text: str) -> str:
    stripped = text.strip()
    if len(stripped) > MAX_CHARACTERS:
        raise ActionRefused(
            "Review", f"the field '{field}' has {len(stripped)} characters.", f"Use at most {MAX_CHARACTERS}."
        )
    return stripped
