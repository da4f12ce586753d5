"""The words of the field as the pages use them: shown on hover where a word heads something, and as a list."""

from typing import Final, Literal

import streamlit as st

__all__ = ["WORDS", "Word", "listing", "meaning"]

Word = Literal[
    "trace", "span", "task", "signal", "solicited", "reward", "credit", "lesson", "playbook", "exposure", "arm",
    "decision", "exploration rate", "drift", "canary", "holdout", "rollout", "propensity", "segment", "interval",
    "guardrail", "incident", "surprise", "payoff",
]  # fmt: skip

WORDS: Final[dict[Word, str]] = {
    "trace": "One run of an agent for one request: what it was asked, what it did step by step, and what came of it. "
    "In reinforcement learning an episode, trajectory or rollout.",
    "span": "One operation inside a trace, such as a call of a model or a tool. Its step is its position in event "
    "time.",
    "task": "What makes traces rollouts of the same thing: a key that the agent gives, else a cluster of similar "
    "inputs.",
    "signal": "One piece of evidence on how good a trace was. Explicit: thumb, rating, comment, correction, "
    "preference, annotation. Implicit: impression, click, copy, edit, retry, abandon, purchase. Others: judge, "
    "outcome, demonstration.",
    "solicited": "A signal that was asked for at random with a logged probability, rather than volunteered. Those who "
    "volunteer are not like everybody else.",
    "reward": "What a reward model estimates a trace to be worth: a mean and a standard deviation, never a bare "
    "number.",
    "credit": "The part of a trace's reward that is due to one step, split into decision and luck.",
    "lesson": "An instruction for agents: a title, when it holds, when not, what to do, why, and the evidence.",
    "playbook": "The lessons served to one agent, as one versioned block within a budget of tokens.",
    "exposure": "One lesson served to a decision, or withheld from it, with the probability of either.",
    "arm": "One alternative that an agent can run: a version of a prompt, a model, a set of tools, a lesson.",
    "decision": "One answer to an agent that asked what to do: arm, whether it explores, probabilities, lessons, "
    "limits.",
    "exploration rate": "The share of decisions that may leave the arm that looks best, per agent, segment or user.",
    "drift": "A change in what a user does, prefers or is satisfied with, or in the model behind an agent.",
    "canary": "A lesson that is served, but withheld at random from a share of decisions, so that its effect can be "
    "measured.",
    "holdout": "The share of decisions from which a canary is withheld at random.",
    "rollout": "One of several traces of the same task: comparing those that went well and badly shows what made the "
    "difference.",
    "propensity": "The probability with which something was chosen, kept at the time of choosing. Without it, what "
    "would have happened otherwise cannot be estimated.",
    "segment": "A group of users: by a rule of the Settings page, else what their traces state.",
    "interval": "The range that holds the true value in 95 of 100 cases, where nothing else is said. A wide one means "
    "that there is little data.",
    "guardrail": "A limit that switches an arm off by itself when the evidence says that it does harm.",
    "incident": "Findings of drift that belong together: many users at once, a segment, everybody, or a model.",
    "surprise": "How unlikely a step of a trace was, given what agents usually do there.",
    "payoff": "What a lesson changes: outcomes with it minus outcomes without it, withheld at random.",
}


def meaning(word: Word) -> str:
    """What a word means, for the `help` of a heading."""
    return f"{word.capitalize()}: {WORDS[word]}"


def listing() -> None:
    """All words in order of the alphabet."""
    for word in sorted(WORDS):
        st.markdown(f"**{word.capitalize()}**  \n{WORDS[word]}")
