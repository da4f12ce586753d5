"""Incidents: findings of drift that have one cause, what it may be, and what is done about them."""
