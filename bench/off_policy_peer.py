"""Off-policy estimates by Open Bandit Pipeline (obp 0.5.5), in its own environment.

Run as: DIR/obp/bin/python bench/off_policy_peer.py ROUNDS REPEATS      Prints JSON: seconds and estimates.
Imports nothing of Trimtab but the rounds beside it.
"""

import json
import statistics
import sys
import time
import warnings

import numpy as np
from off_policy_rounds import LAMBDA, TAU, rounds

NAMES = {"ipw": "IPS", "snipw": "SNIPS", "dm": "DM", "dr": "DR", "switch-dr": "SWITCH", "dr-os": "DRos"}


def main(count: int, repeats: int) -> None:
    """Points, then bootstrap intervals once, as its documentation calls them."""
    from obp import ope

    data = rounds(count)
    every = np.arange(count)
    feedback = {
        "n_rounds": count, "n_actions": data.logged.shape[1], "context": np.zeros((count, 1)), "action": data.arm,
        "reward": data.reward, "pscore": data.logged[every, data.arm], "position": np.zeros(count, dtype=int),
    }  # fmt: skip
    evaluation = ope.OffPolicyEvaluation(
        bandit_feedback=feedback,
        ope_estimators=[
            ope.InverseProbabilityWeighting(), ope.SelfNormalizedInverseProbabilityWeighting(), ope.DirectMethod(),
            ope.DoublyRobust(), ope.SwitchDoublyRobust(lambda_=TAU), ope.DoublyRobustWithShrinkage(lambda_=LAMBDA),
        ],
    )  # fmt: skip
    given = {
        "action_dist": data.target[:, :, None],
        "estimated_rewards_by_reg_model": data.model[:, :, None],
    }
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        values = evaluation.estimate_policy_values(**given)
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    evaluation.estimate_intervals(**given, random_state=1)
    print(
        json.dumps(
            {
                "points": statistics.median(seconds),
                "intervals": time.perf_counter() - started,
                "values": {NAMES[name]: float(value) for name, value in values.items()},
            }
        )
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]), int(sys.argv[2]))
