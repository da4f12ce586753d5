"""A trace as plain text for a language model: who, what happened in order, how it was judged; bounded in size."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dashboard.trace.turns import Turn
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, one_line

__all__ = ["SIZES", "transcript"]

SIZES: Final = (8_000, 24_000, 100_000)

_TURN_SHARE: Final = 4


def transcript(
    trace: Mapping[str, Any], turns: Sequence[Turn], signals: Iterable[Mapping[str, Any]], *, most: int = SIZES[1]
) -> str:
    """The text, of at most `most` characters.

    Args: `trace` with the keys of `store.traces.TRACE_DETAIL`; `signals` with those of `store.signals.SIGNAL_ROWS`.
    A turn longer than a quarter of the room is cut in its middle; where turns do not fit, those in the middle of the
    trace go, since what was asked and how it ended say most. Every omission is stated.
    """
    head = _head(trace)
    tail = _signals(signals)[: most // 4]
    room = most - len(head) - len(tail) - 80
    parts = [_cut(_turn(place, turn), max(200, room // _TURN_SHARE)) for place, turn in enumerate(turns, start=1)]
    return "\n\n".join(part for part in (head, _fit(parts, room), tail) if part)[:most]


def _head(trace: Mapping[str, Any]) -> str:
    facts = {
        "trace": trace["trace_id"],
        "agent": " ".join(text for text in (trace["agent"], trace["agent_version"]) if text),
        "model": trace["model"],
        "task": trace["task"],
        "arm": trace["arm"],
        "started": fmt.when(trace["started_at"]) if trace["started_at"] else None,
        "duration": fmt.duration(trace["seconds"]) if trace["seconds"] is not None else None,
        "status": trace["status"],
        "reward": fmt.reward(trace["reward"], trace["reward_sd"], trace["reward_signals"])
        if trace["reward"] is not None
        else None,
    }
    return "\n".join(f"{name}: {one_line(str(value), 200)}" for name, value in facts.items() if value)


def _turn(place: int, turn: Turn) -> str:
    status = " (failed)" if turn.status == "error" else ""
    if turn.arguments is None:
        name = f" {one_line(turn.name, 80)}" if turn.name else ""
        return f"[{place}] {one_line(turn.role, 40)}{name}{status}\n{clean(turn.text or '')}"
    result = f"\nresult: {clean(turn.text)}" if turn.text is not None else "\nno result"
    name = one_line(turn.name, 80) or "without a name"
    return f"[{place}] tool {name}{status}\narguments: {clean(turn.arguments)}{result}"


def _signals(signals: Iterable[Mapping[str, Any]]) -> str:
    lines = []
    for signal in signals:
        value = "" if signal["value"] is None else f" {signal['value']:g}"
        who = f" by {signal['annotator_kind']}" if signal["annotator_kind"] else ""
        text = f": {one_line(signal['text'], 400)}" if signal["text"] else ""
        name = f" {one_line(signal['name'], 60)}" if signal["name"] else ""
        lines.append(f"- {signal['kind']}{name}{value}{who}{text}")
    return "\n".join(["signals:", *lines]) if lines else ""


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = (most - 40) // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


def _fit(parts: list[str], room: int) -> str:
    """The parts joined; of too many, as many as fit from both ends."""
    if sum(len(part) + 2 for part in parts) <= room:
        return "\n\n".join(parts)
    first: list[str] = []
    last: list[str] = []
    left = room
    low, high = 0, len(parts)
    while low < high:
        take_first = len(first) <= len(last)
        part = parts[low] if take_first else parts[high - 1]
        if len(part) + 2 > left:
            break
        left -= len(part) + 2
        if take_first:
            first.append(part)
            low += 1
        else:
            last.insert(0, part)
            high -= 1
    omitted = f"… {high - low:,} of {len(parts):,} turns left out …"
    return "\n\n".join([*first, omitted, *last])
