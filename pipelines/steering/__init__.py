"""Steering: the policy in force for each agent, and the decisions taken by it."""
