"""Alarms by river 0.26.1 (ADWIN and Page-Hinkley, as they come), in its own environment.

Run as: DIR/river/bin/python bench/drift_peer.py STREAMS      Prints JSON: first alarms and seconds per scenario.
Imports nothing of Trimtab but the streams beside it.
"""

import json
import sys
import time

from drift_streams import SCENARIOS


def main(count: int) -> None:
    """The first alarm of each stream (0: none) and the seconds of all updates, changed and unchanged streams apart."""
    from river import drift

    answer = {}
    for scenario in SCENARIOS:
        for name, detector in (("ADWIN", drift.ADWIN), ("Page-Hinkley", drift.PageHinkley)):
            for changed in (False, True):
                streams = scenario.streams(count, changed=changed).tolist()
                first = []
                started = time.perf_counter()
                for stream in streams:
                    watch = detector()
                    alarm = 0
                    for event, value in enumerate(stream, start=1):
                        watch.update(value)
                        if watch.drift_detected and not alarm:
                            alarm = event
                    first.append(alarm)
                seconds = time.perf_counter() - started
                answer[f"{scenario.name}/{name}/{changed}"] = {"first": first, "seconds": seconds}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(int(sys.argv[1]))
