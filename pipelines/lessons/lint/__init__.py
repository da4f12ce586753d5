"""Lint: what in a lesson's text must not reach an agent unless a person says so."""
