"""The Audit tab of the Settings page: who did what, and whether the log is as it was written."""
