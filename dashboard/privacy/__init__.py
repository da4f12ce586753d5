"""The Privacy tab of the Settings page: forgetting, exporting, retention, opting out, redaction."""
