"""A deployment with known truth: agents, people and their feedback over some weeks, as files to ingest.

It is the demo's data and the yardstick of every estimator. The same seed gives the same files, byte for byte.
"""

from pathlib import Path

from pipelines.simulate.config import SimulationConfig
from pipelines.simulate.deployment import Deployment, simulate
from pipelines.simulate.files import write

__all__ = ["Deployment", "SimulationConfig", "run", "simulate", "write"]

_TRACES_PER_USER = 10


def run(out: Path, users: int | None, days: int | None, seed: int, traces: int | None) -> dict[str, int]:
    """Simulate a deployment and write its files to `out`; None means the default. Returns rows per file.

    Without `traces` there are ten per user. Raises SettingsError for a value out of range.
    """
    users = SimulationConfig.users if users is None else users
    config = SimulationConfig(
        users=users,
        days=SimulationConfig.days if days is None else days,
        traces=users * _TRACES_PER_USER if traces is None else traces,
        seed=seed,
    )
    deployment = simulate(config)
    write(deployment, out)
    return {
        "traces": deployment.traces.height,
        "spans": deployment.spans.height,
        "signals": deployment.signals.height,
        "clicks": deployment.clicks.height,
    }
