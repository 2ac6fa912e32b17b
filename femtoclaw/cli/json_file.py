"""A file that another command of this program wrote, as JSON."""

from __future__ import annotations

import json
import os
from typing import Any

from femtoclaw.errors import ConfigurationError, UsageError


def read_json(path: str, bytes_max: int, command: str) -> Any:
    """What is in it. Raises UsageError for one of more than ``bytes_max`` bytes or that is no JSON, and ConfigurationError
    for one that cannot be read; ``command`` is who writes such files."""
    try:
        size = os.path.getsize(path)
        if size > bytes_max:
            raise UsageError(
                f"too large for a file of `femtoclaw {command}`",
                where=path,
                expected=f"<= {bytes_max} bytes",
                found=size,
            )
        with open(path, "rb") as file:
            return json.load(file)
    except OSError as error:
        raise ConfigurationError("it cannot be read", where=path, found=error.strerror) from error
    except ValueError as error:
        raise UsageError(f"this is no file of `femtoclaw {command}`", where=path, found=type(error).__name__) from None
