"""Serving lessons: which of them a request gets, and why. Pure, and without libraries that a server does not need."""
