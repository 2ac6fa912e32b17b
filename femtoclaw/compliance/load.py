"""Every module with checks, loaded."""

from __future__ import annotations

from importlib import import_module

AREAS = (
    "events", "storage", "start", "crash", "simulated", "sources", "session", "operations", "deploy", "monitoring",
    "tables", "more",
    "suite", "releases",
)  # fmt: skip
"""Modules ``checks_<area>`` of this package."""


def load_checks() -> None:
    """Register all of them; done twice it is done once."""
    for area in AREAS:
        import_module(f"femtoclaw.compliance.checks_{area}")
