"""Transition models over abstract states: surprise, novelty, learning progress, reliability (METHODS §5)."""
