"""Privacy: redaction at ingest, retention, forgetting and exporting one user."""
