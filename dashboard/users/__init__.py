"""Panels of the Users page: the list of users and one user's summary, preferences and signals."""
