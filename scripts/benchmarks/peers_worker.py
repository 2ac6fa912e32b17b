"""One contestant in one process: ``peers_worker.py MODULE:FUNCTION FOLDER SETTINGS``.

FUNCTION(folder, **settings) gives the contestant: what it is made of, and a function from a request to a figure. Runs in
the project's environment or in the peers', so it imports nothing of either.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def main() -> None:
    # Answers go to a descriptor of their own: libraries print to standard output as they like.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    target, folder, settings = sys.argv[1:4]
    module, _, name = target.partition(":")
    try:
        versions, measure = getattr(importlib.import_module(module), name)(folder, **json.loads(settings))
    except Exception as error:
        answers.write(json.dumps({"error": describe(error)}) + "\n")
        raise
    answers.write(json.dumps({"versions": versions}) + "\n")
    for line in sys.stdin:
        try:
            answer = {"figure": measure(**json.loads(line))}
        except Exception as error:
            answers.write(json.dumps({"error": describe(error)}) + "\n")
            raise
        answers.write(json.dumps(answer) + "\n")


def describe(error: Exception) -> str:
    """The kind of error and its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else 'no text'}"


if __name__ == "__main__":
    main()
