"""One trace on the Traces page: what it is made of (pure modules) and how each tab shows it."""
