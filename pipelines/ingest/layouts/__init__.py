"""Importers of nested formats: pure functions from one parsed JSON record to `Rows`."""
