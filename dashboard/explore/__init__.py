"""Panels of the Exploration page, one noun each."""
