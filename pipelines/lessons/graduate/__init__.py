"""Graduation: lessons that pay for long are taught to a model, and no longer served once it does without them."""
