"""Guardrails: limits returned with each decision, audited against the traces that follow."""
