"""Every module with checks, loaded."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import femtoclaw.compliance


def load_checks() -> None:
    """Register the checks of each ``checks_<area>`` of this package, by name; done twice it is done once."""
    for each in sorted(module.name for module in iter_modules(femtoclaw.compliance.__path__)):
        if each.startswith("checks_"):
            import_module(f"femtoclaw.compliance.{each}")
