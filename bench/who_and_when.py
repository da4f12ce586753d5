"""How well statistics of steps find the one that made a run fail, on the labelled failures of Who&When.

Run as: python -m bench.who_and_when [FOLDER]    (default: ../shared/data/who_and_when/Who&When)

Every log is a failure, so there is no success to take differences of values from. What can be tested is the same kind
of evidence that credit rests on: features of each step and its neighbours, weighed by how often such steps were to
blame in the other logs (logistic regression, leave one log out; the step with the highest probability is named, and
the agent with the highest sum). The numbers stand beside guesses that look at nothing; the page shows them, from
`pipelines.credit.measured`, next to every credit of a step.
"""

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pipelines.credit.measured import WHO_AND_WHEN, Measured

__all__ = ["Log", "measure", "read"]

Floats = NDArray[np.float64]

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "who_and_when" / "Who&When"
SETS = ("Algorithm-Generated", "Hand-Crafted")

_STRENGTH = 0.05  # inverse of the ridge penalty
_POSITIONS = 10
_ROLES = ("orchestrator (thought)", "orchestrator (->", "orchestrator", "websurfer", "filesurfer", "assistant", "human",
          "terminal", "verif", "check", "expert")  # fmt: skip
_PATTERNS = {
    "error": r"error|exception|traceback|exitcode: [1-9]|failed|not found|denied",
    "success": r"exitcode: 0",
    "code": r"```",
    "assumes": r"assum|hypothetical|example data|mock|simulat|let's say|likely|probably",
    "checks": r"verif|double-check|confirm|validate|correct",
    "cannot": r"unable|cannot|can't|sorry|no access|not available|unfortunately",
    "concludes": r"terminate|final answer|therefore|the answer is|conclusion",
    "number": r"\d{2,}",
    "searches": r"search|click|scroll|page|website|url|http",
    "plan": r"plan|step 1|first,|next,",
}


@dataclass(frozen=True)
class Log:
    """One failed run: who said what, and the index of the step and the name of the agent to blame."""

    agents: list[str]
    texts: list[str]
    roles: list[str]
    step: int
    agent: str


def read(folder: Path) -> list[Log]:
    """The logs of one set, in order of their file's number."""
    files = sorted(folder.glob("*.json"), key=lambda path: int(path.stem))
    return [_log(json.loads(path.read_text(encoding="utf-8"))) for path in files]


def measure(name: str, logs: list[Log]) -> Measured:
    """Accuracies of leave-one-out attribution and of constant guesses, in shares of the logs."""
    features = [_features(log) for log in logs]
    with threadpool_limits(1):  # little work a fit: threads would only wait for one another
        steps, agents = _left_out(logs, features)
    constant, frequent = _constants(logs)
    return Measured(
        name=name,
        logs=len(logs),
        agent=_share(agents),
        step=_share(steps),
        random_agent=float(np.mean([1.0 / len(set(log.agents)) for log in logs])),
        random_step=float(np.mean([1.0 / len(log.texts) for log in logs])),
        first_step=_share([log.step == 1 for log in logs]),
        best_constant=constant,
        frequent_agent=frequent,
    )


def _left_out(logs: list[Log], features: list[Floats]) -> tuple[list[bool], list[bool]]:
    """Whether step and agent were named rightly, for each log from a model of the others."""
    steps, agents = [], []
    for held, log in enumerate(logs):
        others = [at for at in range(len(logs)) if at != held]
        x = np.concatenate([features[at] for at in others])
        y = np.concatenate([np.arange(len(logs[at].texts)) == logs[at].step for at in others])
        scaler = StandardScaler().fit(x)
        model = LogisticRegression(C=_STRENGTH, max_iter=500).fit(scaler.transform(x), y)
        odds = model.decision_function(scaler.transform(features[held]))
        chance = np.exp(odds - odds.max())
        chance /= chance.sum()
        sums: dict[str, float] = {}
        for agent, share in zip(log.agents, chance.tolist(), strict=True):
            sums[agent] = sums.get(agent, 0.0) + share
        steps.append(int(np.argmax(chance)) == log.step)
        agents.append(_same(max(sums, key=lambda agent: sums[agent]), log.agent))
    return steps, agents


def _log(document: dict[str, Any]) -> Log:
    roles = [str(entry.get("name") or entry["role"]) for entry in document["history"]]
    return Log(
        agents=[re.sub(r"\s*\(.*\)$", "", role) for role in roles],
        texts=[str(entry["content"]) for entry in document["history"]],
        roles=[role.lower() for role in roles],
        step=int(document["mistake_step"]),
        agent=str(document["mistake_agent"]),
    )


def _features(log: Log) -> Floats:
    """Shape (steps, features): where the step is, who took it, what it and its neighbours look like."""
    count = len(log.texts)
    at = np.arange(count)
    found = np.array(
        [[bool(re.search(p, text.lower())) for p in _PATTERNS.values()] for text in log.texts], dtype=float
    )
    empty = np.zeros((1, len(_PATTERNS)))
    roles = np.array([[name in role for name in _ROLES] for role in log.roles], dtype=float)
    first_of_agent = [float(agent not in log.agents[:index]) for index, agent in enumerate(log.agents)]
    own_share = [log.agents.count(agent) / count for agent in log.agents]
    repeats = [_likeness(text, log.texts[index - 1] if index else "") for index, text in enumerate(log.texts)]
    single = np.stack(
        [
            np.log1p(at), at / max(count - 1, 1), np.full(count, np.log(count)), (at == count - 1).astype(float),
            np.log1p([len(text) for text in log.texts]), np.array(first_of_agent), np.array(own_share),
            np.array(repeats),
        ],
        axis=1,
    )  # fmt: skip
    places = (at[:, None] == np.arange(_POSITIONS)[None, :]).astype(float)
    following = np.concatenate([found[1:], empty])
    before = np.concatenate([empty, found[:-1]])
    return np.concatenate([single, places, roles, found, following, before], axis=1)


def _likeness(text: str, other: str) -> float:
    """Jaccard similarity of the words of two texts."""
    a, b = set(text.lower().split()), set(other.lower().split())
    return len(a & b) / len(a | b) if a | b else 0.0


def _constants(logs: list[Log]) -> tuple[float, float]:
    """Accuracy of naming the step number, and the agent, that is most often to blame in the other logs."""
    steps, agents = [], []
    for held, log in enumerate(logs):
        others = [other for at, other in enumerate(logs) if at != held]
        numbers = [other.step for other in others]
        names = [other.agent for other in others if other.agent in log.agents]
        steps.append(max(sorted(set(numbers)), key=numbers.count) == log.step)
        agents.append(bool(names) and _same(max(sorted(set(names)), key=names.count), log.agent))
    return _share(steps), _share(agents)


def _same(named: str, labelled: str) -> bool:
    return named.strip().lower() == labelled.strip().lower()


def _share(hits: list[bool]) -> float:
    return float(np.mean(hits))


def main() -> None:
    """Print the accuracies beside the constants that the pages show."""
    parser = argparse.ArgumentParser(prog="python -m bench.who_and_when", description="Attribution on Who&When.")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder: Path = parser.parse_args().folder
    shown = {measured.name: measured for measured in WHO_AND_WHEN}
    for name in SETS:
        now = measure(name, read(folder / name))
        print(f"{name}: {now.logs} failed runs")
        print(f"  step   {now.step:7.2%}   random {now.random_step:.2%}, always step 1 {now.first_step:.2%}, "
              f"most frequent number {now.best_constant:.2%}")  # fmt: skip
        print(
            f"  agent  {now.agent:7.2%}   random {now.random_agent:.2%}, most frequent agent {now.frequent_agent:.2%}"
        )
        if name in shown:
            print(f"  on the page: step {shown[name].step:.2%}, agent {shown[name].agent:.2%}")


if __name__ == "__main__":
    main()
