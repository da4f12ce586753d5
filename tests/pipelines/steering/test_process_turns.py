"""Short turns change nothing but how soon a thread gets the processor."""

import os
import subprocess
import sys


def test_asking_for_short_turns_keeps_the_niceness() -> None:
    """In a process of its own: it would stay with the tests."""
    code = (
        "import os; from pipelines.steering.process_turns import take_short_turns; os.nice(3); "
        "granted = take_short_turns(); print(isinstance(granted, bool), os.getpriority(os.PRIO_PROCESS, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", str(min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3))]
