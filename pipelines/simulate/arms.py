"""The arms and the planted causes of all agents as columns, for arithmetic over many traces at once."""

from dataclasses import dataclass

import numpy as np

from pipelines.simulate.agents import AGENTS, KINDS, MODELS, Cause
from pipelines.simulate.arrays import Bools, Floats, Ints

__all__ = ["Arms", "Causes"]


@dataclass(frozen=True)
class Arms:
    """All arms of all agents as columns: an arm is a prompt version run on a model."""

    name: list[str]
    agent: Ints
    prompt: Ints  # index within the agent
    model: Ints
    effect: Floats
    click_effect: Floats
    style: Floats  # (arms, 2): brevity, explanation
    cause_factor: Floats  # (arms, causes)

    @classmethod
    def all(cls) -> "Arms":
        """The arms in order of agent, prompt, model."""
        rows = [
            (a, p, m) for a, agent in enumerate(AGENTS) for p in range(len(agent.prompts)) for m in range(len(MODELS))
        ]
        prompts = [AGENTS[a].prompts[p] for a, p, _ in rows]
        keys = [cause.key for agent in AGENTS for cause in agent.causes]
        return cls(
            name=[f"{prompt.version}/{MODELS[m].name}" for prompt, (_, _, m) in zip(prompts, rows, strict=True)],
            agent=np.array([a for a, _, _ in rows]),
            prompt=np.array([p for _, p, _ in rows]),
            model=np.array([m for _, _, m in rows]),
            effect=np.array(
                [prompt.effect + MODELS[m].effect for prompt, (_, _, m) in zip(prompts, rows, strict=True)]
            ),
            click_effect=np.array([prompt.click_effect for prompt in prompts]),
            style=np.array([(prompt.brevity, prompt.explanation) for prompt in prompts]),
            cause_factor=np.array([[prompt.cause_factors.get(key, 1.0) for key in keys] for prompt in prompts]),
        )

    def of(self, agent: int) -> Ints:
        """Indices of one agent's arms."""
        return np.flatnonzero(self.agent == agent)

    def index(self, agent: int, prompt: Ints, model: Ints) -> Ints:
        """Indices of one agent's arms given by prompt and model."""
        return np.asarray(self.of(agent)[0] + prompt * len(MODELS) + model)


@dataclass(frozen=True)
class Causes:
    """All planted causes of all agents as columns."""

    definitions: tuple[Cause, ...]
    agent: Ints
    rate: Floats
    effect: Floats
    eligible: Bools  # (kinds of task, causes)

    @classmethod
    def all(cls) -> "Causes":
        """The causes in order of agent."""
        definitions = tuple(cause for agent in AGENTS for cause in agent.causes)
        return cls(
            definitions=definitions,
            agent=np.array([a for a, agent in enumerate(AGENTS) for _ in agent.causes]),
            rate=np.array([cause.rate for cause in definitions]),
            effect=np.array([cause.effect for cause in definitions]),
            eligible=np.array([[kind in cause.kinds for cause in definitions] for kind in KINDS]),
        )

    def index(self, key: str) -> int:
        """Position of a cause by its key."""
        return [cause.key for cause in self.definitions].index(key)
