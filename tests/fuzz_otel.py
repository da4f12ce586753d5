"""Fuzz the OTLP decoders: `make fuzz` (ten minutes) or `python tests/fuzz_otel.py --minutes 1`.

Random bytes drive the properties of `pipelines/otel/test_fuzz_otel.py` through Hypothesis' interface for fuzzers. Any
crash ends it with the traceback; so do one input that takes over five seconds and memory that keeps growing.
"""

import argparse
import inspect
import os
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "pipelines" / "otel")]

import test_fuzz_otel as properties  # noqa: E402

SLOWEST_SECONDS = 5.0
GROWTH_MB = 64.0
_LARGEST_INPUT = 4_096
_WARM_SECONDS = 20.0


def main() -> None:
    """Run until the time is up; prints how many inputs each property took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    print(f"seed {arguments.seed}", flush=True)

    fuzzed = [
        (name, test.hypothesis.fuzz_one_input)
        for name, test in sorted(vars(properties).items())
        # Without fixtures: nobody provides them here.
        if name.startswith("test_") and hasattr(test, "hypothesis") and not inspect.signature(test).parameters
    ]
    counts = dict.fromkeys((name for name, _ in fuzzed), 0)
    slowest, warm_mb = 0.0, None
    begun = time.monotonic()
    while (elapsed := time.monotonic() - begun) < arguments.minutes * 60:
        for name, one in fuzzed:
            started = time.monotonic()
            one(chance.randbytes(chance.randint(0, _LARGEST_INPUT)))
            took = time.monotonic() - started
            slowest = max(slowest, took)
            if took > SLOWEST_SECONDS:
                raise SystemExit(f"{name} took {took:.1f} s for one input (seed {arguments.seed})")
            counts[name] += 1
        # Caches fill at first; a leak is what grows after that.
        if warm_mb is None and elapsed > min(_WARM_SECONDS, arguments.minutes * 20):
            warm_mb = _resident_mb()
    grown = _resident_mb() - (warm_mb or _resident_mb())
    for name, count in counts.items():
        print(f"{name}: {count:,} inputs")
    print(f"{sum(counts.values()):,} inputs, the slowest {slowest:.2f} s, memory grew by {grown:,.1f} MB")
    if grown > GROWTH_MB:
        raise SystemExit(f"memory grew by {grown:,.1f} MB, which looks like a leak")


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
