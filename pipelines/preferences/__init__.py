"""What people value: weights of readable features from choices, stated against revealed, and which arm wins."""
