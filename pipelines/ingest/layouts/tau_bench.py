"""Trajectory files of tau-bench (sierra-research/tau-bench): one record is one rollout of one task.

A record is `{task_id, reward, info, traj, trial}`; `traj` is the whole conversation in OpenAI's form. The source states
no times and no id, so rows have none of the first and the trace is identified by its content. A task is a position in
the list of one domain, so the domain, read from the first heading of the policy, is part of the task's name.
"""

import re
from typing import Any, Final

from pipelines.ingest.layouts.fields import Fields, content_hash, plain_record, present
from pipelines.ingest.layouts.messages import ROOT, read_conversation
from pipelines.ingest.rows import Row, Rows

_HEADING: Final = re.compile(r"^#{1,6}\s+(\S.*)$", re.MULTILINE)
_WORDS: Final = re.compile(r"[a-z0-9]+")
_COMMON: Final = ("agent", "policy")  # in the heading of every domain


def import_tau_bench(record: dict[str, Any], source: str) -> Rows:
    """Rows of one trajectory: a trace, its spans in order, and its verified reward as an `outcome` signal.

    Args: `record` as parsed from the file; `source` of the data.
    Raises: `RecordRejected` naming the field that has the wrong type or is missing.
    """
    plain = plain_record(record)
    trace_id = f"tau-{content_hash(plain)}"
    fields = Fields(plain)
    messages = fields.objects("traj")
    if not messages:
        raise fields.reject("traj", plain.get("traj"), "a list of chat messages")
    verdict = fields.take("reward") if isinstance(plain.get("reward"), bool) else fields.number("reward")
    task_id = fields.text("task_id", keep=True)
    info = Fields(fields.mapping("info", keep=True), "info.")
    task = Fields(info.mapping("task"), "info.task.")
    conversation = read_conversation(messages, trace_id=trace_id, source=source, model=None, path="traj")
    agent = _agent(conversation.system)
    trace = present(
        trace_id=trace_id, source=source, agent=agent, user_id=task.text("user_id"),
        task=f"{agent or 'task'}-{task_id}" if task_id is not None else None,
        input=conversation.input, output=conversation.output,
        started_at=conversation.started_at(), ended_at=conversation.ended_at(), metadata=fields.rest(),
    )  # fmt: skip
    shared = ("trace_id", "source", "input", "output", "started_at", "ended_at")
    root: Row = {name: trace[name] for name in shared if name in trace}
    root |= {"span_id": ROOT, "kind": "agent", "name": agent or "agent", "ordinal": 0}
    details = Fields(info.mapping("reward_info"), "info.reward_info.").mapping("info")
    outcome = present(
        signal_id=f"{trace_id}-reward", trace_id=trace_id, kind="outcome", name="reward", annotator_kind="code",
        value=None if verdict is None else float(verdict), source=source, metadata=details,
    )  # fmt: skip
    return Rows([trace], [root, *conversation.spans], [] if verdict is None else [outcome])


def _agent(system: str | None) -> str | None:
    """The domain in the first heading of the instructions: "# Airline Agent Policy" gives "airline"."""
    heading = _HEADING.search(system or "")
    words = _WORDS.findall(heading[1].lower()) if heading else []
    telling = [word for word in words if word not in _COMMON]
    return "-".join(telling or words) or None
