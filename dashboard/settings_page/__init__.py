"""The parts of the Settings page that are about operators and keys."""
