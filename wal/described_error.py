"""What every error of these packages says: what happened, where, what was expected and found, and what to do next."""

from __future__ import annotations


class DescribedError(Exception):
    """Base of the packages' own errors. ``what`` is one sentence without a trailing dot; never holds a secret."""

    exit_code = 70
    """The process exit code that the command line's contract gives this class of trouble."""
    default_remedy = "report this as a defect"

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        expected: object = None,
        found: object = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.found = found
        self.remedy = remedy if remedy is not None else self.default_remedy

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"at {self.where}")
        told = {"expected": self.expected, "found": self.found}
        facts = ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)
        return "; ".join([*parts, facts] if facts else parts)
