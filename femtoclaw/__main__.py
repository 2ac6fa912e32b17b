"""Entry point. Answers ``--version`` before anything else is imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with the contract's code."""
    if sys.argv[1:] == ["--version"]:
        from femtoclaw.version import VERSION

        print(f"femtoclaw {VERSION}")
        return
    from femtoclaw.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
