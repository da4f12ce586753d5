"""Distillation: keeping the library small and true, by proposals that an operator decides about."""
