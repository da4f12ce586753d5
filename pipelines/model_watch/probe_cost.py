"""What a run of probes is going to cost, said before anything is sent."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines import llm_samples
from pipelines.llm_setup import ModelSetup
from pipelines.model_watch.prompts import built_in
from store import model_probes
from store.connection import Store
from store.llm_calls import Charge
from store.model_probe_runs import Planned
from store.model_probes import ProbeSettings

__all__ = ["Estimate", "estimate", "planned"]


@dataclass(frozen=True)
class Estimate:
    """What a run of so many samples costs: likely, and at most."""

    samples: int
    likely: Charge
    most: Charge


def planned(store: Store, settings: ProbeSettings, *, baseline: bool) -> list[Planned]:
    """The plan of a run: the built-in prompts and those of operators."""
    samples = settings.baseline_samples if baseline else settings.samples
    own = [
        Planned(row["probe_id"], row["kind"], row["prompt"], row["output_tokens"], samples)
        for row in model_probes.active(store).to_dicts()
    ]
    known = {each.probe_id for each in own}
    return [each for each in built_in(samples) if each.probe_id not in known] + own


def estimate(setup: ModelSetup, plan: Sequence[Planned]) -> Estimate:
    """What a plan costs at the model's price."""
    likely, most = Charge(0, 0.0), Charge(0, 0.0)
    for each in plan:
        for _ in range(each.samples):
            likely += llm_samples.likely(setup, each.prompt, each.output_tokens)
            most += llm_samples.most(setup, each.prompt, each.output_tokens)
    return Estimate(sum(each.samples for each in plan), likely, most)
