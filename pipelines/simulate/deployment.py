"""A simulated deployment: the data a customer would upload, and the truth behind it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from pipelines.simulate.arms import Arms, Causes
from pipelines.simulate.arrays import hex_ids, stream
from pipelines.simulate.behaviour import decide_purchases, write_behaviour, write_click_log
from pipelines.simulate.checks import write_checks
from pipelines.simulate.config import SimulationConfig
from pipelines.simulate.feedback import write_feedback
from pipelines.simulate.outcomes import World
from pipelines.simulate.parameters import parameters
from pipelines.simulate.population import draw_population
from pipelines.simulate.requests import write_requests
from pipelines.simulate.rollouts import play_sessions
from pipelines.simulate.sessions import draw_sessions
from pipelines.simulate.shop import write_shop
from pipelines.simulate.signals import Scene
from pipelines.simulate.spans import write_spans
from pipelines.simulate.statements import write_statements
from pipelines.simulate.support import write_support
from pipelines.simulate.tasks import draw_tasks
from pipelines.simulate.timing import step_times, trace_starts
from pipelines.simulate.travel import write_travel
from pipelines.simulate.truth import item_truth, trace_truth

__all__ = ["Deployment", "simulate"]


@dataclass(frozen=True)
class Deployment:
    """Frames of the files to upload (traces, spans, signals in our layouts; clicks in the shop's own), and the truth.

    `truth` holds every parameter, person, task, arm and cause; `truth_traces` one row per trace, `truth_items` one per
    item shown.
    """

    config: SimulationConfig
    traces: pl.DataFrame
    spans: pl.DataFrame
    signals: pl.DataFrame
    clicks: pl.DataFrame
    truth: dict[str, Any]
    truth_traces: pl.DataFrame
    truth_items: pl.DataFrame


def simulate(config: SimulationConfig) -> Deployment:
    """Simulate a deployment; a function of the configuration alone."""
    arms = Arms.all()
    world = World(config, draw_population(config), draw_tasks(config), arms, Causes.all())
    sessions = draw_sessions(config, world.people, arms)
    rollouts = play_sessions(world, sessions)

    texts = stream(config.seed, "texts")
    requests = write_requests(world, rollouts, texts)
    scripts = [write(world, rollouts, requests, texts) for write in (write_shop, write_travel, write_support)]
    steps = stream(config.seed, "steps")
    times = [step_times(world, rollouts, script, steps) for script in scripts]
    start_ms, end_ms = trace_starts(sessions, rollouts, scripts, times, steps)
    spans = write_spans(world, sessions, rollouts, scripts, times, start_ms, steps)
    answers = np.empty(len(rollouts), dtype=np.object_)
    for script in scripts:
        answers[script.rows] = script.answers
    traces = write_statements(world, sessions, rollouts, requests, answers.tolist(), spans, start_ms, end_ms)

    scene = Scene(world, sessions, rollouts, start_ms, end_ms)
    feedback = stream(config.seed, "feedback")
    purchases = decide_purchases(scene, feedback)
    frames = [
        *write_feedback(scene, feedback),
        *write_behaviour(scene, purchases, feedback),
        *write_checks(scene, feedback),
    ]
    signals = pl.concat(frames).sort("occurred_at", "kind", "user_id", "trace_id", "item", nulls_last=True)
    ids = [f"sig_{text}" for text in hex_ids(feedback, signals.height, 20)]
    signals = signals.with_columns(pl.Series("signal_id", ids, dtype=pl.String))
    return Deployment(
        config=config,
        traces=traces,
        spans=spans.frame,
        signals=signals,
        clicks=write_click_log(scene),
        truth=parameters(scene, signals),
        truth_traces=trace_truth(scene, purchases, spans.mistake_span),
        truth_items=item_truth(scene),
    )
