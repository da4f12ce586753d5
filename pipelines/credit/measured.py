"""How often attribution to a step has been right where the truth is known: shown beside every credit of a step.

Measured on Who&When (Zhang et al. 2025, 2505.00212; MIT): 184 failed runs of teams of agents, each labelled by people
with the agent and the step that made it fail. `python -m bench.who_and_when` measures again, leaving one log out; a
test holds these constants to what it computes.
"""

from dataclasses import dataclass

__all__ = ["WHO_AND_WHEN", "Measured"]


@dataclass(frozen=True)
class Measured:
    """Accuracies in one set of logs: ours leaving one log out, and those of guesses that look at nothing."""

    name: str
    logs: int
    agent: float
    step: float
    random_agent: float
    random_step: float
    first_step: float  # always naming step 1
    best_constant: float  # naming the step number that is to blame most often in the other logs
    frequent_agent: float  # naming the agent of this log that is to blame most often in the other logs


WHO_AND_WHEN = (
    Measured("Algorithm-Generated", 126, 0.5952, 0.4048, 0.2910, 0.1200, 0.2698, 0.2698, 0.3016),
    Measured("Hand-Crafted", 58, 0.5172, 0.2069, 0.2920, 0.0416, 0.0172, 0.0, 0.5862),
)
