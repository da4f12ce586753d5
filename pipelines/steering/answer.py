"""What an agent is told of a decision, as the bytes of a JSON object: pure, importable wherever answers are made."""

import json

from pipelines.steering.decide import Decided

__all__ = ["answer"]


def answer(decided: Decided) -> bytes:
    """The answer to `POST /v1/steer`: one JSON object in UTF-8."""
    decision, lessons = decided.decision, decided.lessons
    told = {
        "decision_id": decision.decision_id,
        "policy_version": decision.policy_version,
        "arm": decision.arm,
        "explore": decision.explore,
        "propensity": decision.propensity,
        "propensities": dict(zip(decision.arms, decision.propensities, strict=True)),
        "rate": decision.rate,
        "sticky": decision.sticky,
        "solicit": decision.solicit,
        "solicit_propensity": decision.solicit_propensity,
        "note": decision.note,
        "lessons": lessons.served,
        "instructions": lessons.instructions,
        "lesson_set_hash": lessons.lesson_set_hash,
        "playbook_version": lessons.playbook_version,
    }
    own = json.dumps(told, ensure_ascii=False).encode()
    return own[:-1] + b", " + decided.compiled.served(decision.arm) + b"}"
