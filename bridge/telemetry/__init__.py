"""Logs, metrics and health of every role."""
