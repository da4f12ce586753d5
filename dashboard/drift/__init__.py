"""Panels of the Drift page: findings, users by week, incidents, changes of models, and rules for responses."""
