"""Timing in a process of its own, so that peak memory is that of one measurement; quantiles of what was timed."""

import json
import multiprocessing
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measured:
    """What one run took: wall seconds, peak resident memory in MB, and whatever the run returned."""

    seconds: float
    peak_mb: float
    value: Any


def alone(function: Callable[..., Any], *arguments: Any) -> Measured:
    """Run a function of a module in a fresh process and measure it there."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, arguments))
    process.start()
    sender.close()
    answer = json.loads(receiver.recv())
    process.join()
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return Measured(answer["seconds"], answer["peak_mb"], answer["value"])


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of the sorted values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ms(seconds: list[float], digits: int = 0) -> str:
    """p50 / p99 in milliseconds."""
    return " / ".join(f"{quantile(seconds, share) * 1000:,.{digits}f}" for share in (0.5, 0.99))


def fresh_folder(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _child(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    started = time.perf_counter()
    try:
        value = function(*arguments)
        answer = {"seconds": time.perf_counter() - started, "peak_mb": _peak_mb(), "value": value}
    except Exception as error:
        answer = {"error": repr(error)}
    sender.send(json.dumps(answer))


def _peak_mb() -> float:
    """Peak resident memory of this process; ru_maxrss on Linux would start from that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
