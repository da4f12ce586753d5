"""The policy, as those who decide by it know it; it is defined in the store, which keeps every version."""

from store.policy import Arm, ArmState, Limits, Policy, Users

__all__ = ["Arm", "ArmState", "Limits", "Policy", "Users"]
