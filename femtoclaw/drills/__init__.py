"""Drills: the faults of the runbook, built in homes of their own and answered with its commands."""
