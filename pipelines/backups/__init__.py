"""Backups on a schedule: made while the store is in use, verified by restoring, and only so many kept."""
