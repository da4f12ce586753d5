"""The Backup tab of the Settings page."""
