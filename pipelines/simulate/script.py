"""The steps an agent may take in one trace, as a table of slots that are present or absent.

Slots are in order of time, so that a row of presence flags read from left to right is the trace. The texts of a slot
are written for every trace of an agent; only those of slots that are present become spans.
"""

import json
from dataclasses import dataclass

import numpy as np

from pipelines.simulate.arrays import Bools, Ints, Texts

__all__ = ["Call", "Script", "Slot", "answer_message", "call_message", "dumps", "opening", "result_messages"]

dumps = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Slot:
    """One possible step: span kind, name and median duration; `parent` is a slot's index, 0 being the agent itself."""

    kind: str
    name: str
    median_ms: float
    parent: int = 0


@dataclass(frozen=True)
class Script:
    """The steps of all traces of one agent; matrices are (traces of the agent, slots)."""

    slots: tuple[Slot, ...]
    rows: Ints  # indices of the traces
    present: Bools
    errored: Bools
    inputs: Texts
    outputs: Texts
    mistake: Ints  # slot at which the planted mistake shows, -1 where none was made
    answers: list[str]  # final answers

    def __post_init__(self) -> None:
        shape = (len(self.rows), len(self.slots))
        matrices = (self.present, self.errored, self.inputs, self.outputs)
        if any(matrix.shape != shape for matrix in matrices) or np.any(self.errored & ~self.present):
            raise ValueError("a script's matrices disagree")


@dataclass(frozen=True)
class Call:
    """One tool call: its slot, the tool, arguments and result as JSON texts."""

    slot: int
    tool: str
    arguments: str
    result: str


def opening(system: str, history: tuple[str, str] | None, request: str) -> str:
    """Chat messages up to the user's request, as JSON without the closing bracket, in the OpenAI chat format."""
    earlier = "" if history is None else f", {_message('user', history[0])}, {_message('assistant', history[1])}"
    return f"[{_message('system', system)}{earlier}, {_message('user', request)}"


def call_message(calls: list[Call], text: str | None = None) -> str:
    """The assistant message that makes these tool calls."""
    listed = ", ".join(
        f'{{"id": "call_{call.slot}", "type": "function", '
        f'"function": {{"name": "{call.tool}", "arguments": {dumps(call.arguments)}}}}}'
        for call in calls
    )
    return f'{{"role": "assistant", "content": {dumps(text)}, "tool_calls": [{listed}]}}'


def result_messages(calls: list[Call]) -> str:
    """The tool messages that answer these calls, with a comma before each."""
    return "".join(
        f', {{"role": "tool", "tool_call_id": "call_{call.slot}", "content": {dumps(call.result)}}}' for call in calls
    )


def answer_message(text: str) -> str:
    """The assistant's final message."""
    return _message("assistant", text)


def _message(role: str, content: str) -> str:
    return f'{{"role": "{role}", "content": {dumps(content)}}}'
