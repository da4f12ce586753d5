"""What makes the pages pleasant to live in: what changed, saved views, keys, words, and the operator's own times."""
