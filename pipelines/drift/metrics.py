"""What is measured of every user, segment and agent, and which change of it would matter.

The likelihood named here is the expected one; the one used is chosen by the values (`pipelines.drift.likelihoods`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from store.drift_events import PREFERENCE, REWARD, STATED, WORDS
from store.errors import NotFound

__all__ = ["METRICS", "PREFERENCE", "Likelihood", "Metric", "listed", "metric"]

Likelihood = Literal["bernoulli", "gaussian", "log", "categorical", "embedding"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    `practical` is the least change that matters: in the metric's unit; where logarithms are expected, as a share of the
    typical value; of categories, as a change of the share of one of them; `of_spread`, in standard deviations of the
    values, whose unit is not known beforehand; of texts 0, whose change has no size in a unit. `aggregate` says what a
    session's value is.
    """

    name: str
    title: str
    meaning: str
    unit: str
    likelihood: Likelihood
    practical: float
    higher_is: Literal["better", "worse", "neither"]
    aggregate: Literal["session mean", "session majority", "first trace", "session texts"]
    of_spread: bool = False


_ALL: Final = (
    Metric(REWARD, "Reward", "What a session's own signals say of its reward, by the reward model in use", "reward",
           "gaussian", 0.1, "better", "session mean"),
    Metric(STATED, "Stated satisfaction", "Thumbs and ratings, satisfied when above .5", "share", "bernoulli", 0.1,
           "better", "session majority"),
    Metric("click", "Clicks", "Sessions in which something shown was clicked", "share", "bernoulli", 0.1, "better",
           "session majority"),
    Metric("copy", "Copies", "Sessions in which an answer was copied", "share", "bernoulli", 0.1, "better",
           "session majority"),
    Metric("edit", "Edits", "Sessions in which an answer was edited by the user", "share", "bernoulli", 0.1, "worse",
           "session majority"),
    Metric("retry", "Asked again", "Sessions in which the user asked the same again", "share", "bernoulli", 0.1,
           "worse", "session majority"),
    Metric("abandon", "Abandoned", "Sessions that the user left before the end", "share", "bernoulli", 0.1, "worse",
           "session majority"),
    Metric("purchase", "Purchases", "Sessions after which something was bought", "share", "bernoulli", 0.1, "better",
           "session majority"),
    Metric("task mix", "Task mix", "Which tasks a user brings", "share of a task", "categorical", 0.15, "neither",
           "first trace"),
    Metric("language", "Language", "Language of what a user writes, by script and frequent words",
           "share of a language", "categorical", 0.15, "neither", "first trace"),
    Metric(WORDS, "What users ask about", "The words of what a user writes, of the first 1,000 characters a session",
           "texts", "embedding", 0.0, "neither", "session texts"),
    Metric("input length", "Input length", "Characters of what a user writes, of the first 500", "characters", "log",
           0.25, "neither", "session mean"),
    Metric("output length", "Output length", "Tokens of the agent's answers", "tokens", "log", 0.25, "neither",
           "session mean"),
    Metric("tool use", "Tool use", "Sessions in which the agent used a tool", "share", "bernoulli", 0.1, "neither",
           "session majority"),
    Metric("first tool", "First tool", "Which tool the agent used first", "share of a tool", "categorical", 0.15,
           "neither", "first trace"),
    Metric("repeated calls", "Repeated calls", "Sessions in which the agent made the same call of a tool again",
           "share", "bernoulli", 0.1, "worse", "session majority"),
    Metric("latency", "Latency", "Time from the request to the answer", "seconds", "log", 0.25, "worse",
           "session mean"),
    Metric("cost", "Cost", "Money spent on an answer", "USD", "log", 0.25, "worse", "session mean"),
    Metric("surprise", "Surprise", "How unusual the agent's steps were, by the transition model",
           "standard deviations", "gaussian", 0.3, "worse", "session mean"),
)  # fmt: skip

# Besides these, one for every feature that people choose by (`metric`).
METRICS: Final[Mapping[str, Metric]] = {one.name: one for one in _ALL}


def metric(name: str) -> Metric:
    """The metric of this name; of the weights of preferences one for each feature. Raises: `NotFound`."""
    if name.startswith(PREFERENCE) and (feature := name.removeprefix(PREFERENCE)):
        return Metric(
            name, f"Preference: {feature}",
            f"How far what a user chose from a list lay above the list in {feature}", feature, "gaussian", 0.25,
            "neither", "session mean", of_spread=True,
        )  # fmt: skip
    if name not in METRICS:
        raise NotFound("metric", name)
    return METRICS[name]


def listed(features: Iterable[str]) -> list[Metric]:
    """All metrics, with those of the `features` that people choose by."""
    return [*METRICS.values(), *(metric(PREFERENCE + feature) for feature in features)]
