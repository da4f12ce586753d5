"""The lessons that an arm names: an arm may be a way of choosing lessons."""

from pipelines.steering.policy import Arm

__all__ = ["named_lessons"]


def named_lessons(arm: Arm) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ids of the lessons that an arm forces and forbids: `lessons` and `without_lessons` of its definition.

    Only arms of kind lesson or mixed rule about lessons; what is not a list of texts rules nothing.
    """
    if arm.kind not in ("lesson", "mixed"):
        return (), ()

    def listed(key: str) -> tuple[str, ...]:
        held = arm.definition.get(key)
        return tuple(each for each in held if isinstance(each, str)) if isinstance(held, list) else ()

    return listed("lessons"), listed("without_lessons")
