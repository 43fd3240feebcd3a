"""The dashboard: history, details and live progress of all jobs, for people and for programs."""
