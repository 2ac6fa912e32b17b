"""Telemetry derived from the log by a thread of its own: metrics, traces, structured lines. Nothing waits for it."""
