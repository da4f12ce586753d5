"""Drafting lessons with a language model: what it is told of a group of rollouts, and what is taken of its answer."""
