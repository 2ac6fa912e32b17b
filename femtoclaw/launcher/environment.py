"""What the environment may bring into a process that is to be verified: words, and no code.

A library that the dynamic linker was told to load has run before this module did, and could have changed it. That it is
refused keeps honest mistakes out, and shells and services that set such variables for everything they start; who sets
the environment of the node's user on purpose is that user.
"""

from __future__ import annotations

import os

from femtoclaw.launcher.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

LINKER = "LD_"
"""Variables of the dynamic linker: other libraries, or other places for them."""

DROPPED = ("OPENSSL_", "SSL_", "MALLOC_", "PYTHON", "BASH_", LINKER)
"""Beginnings of names of variables that libraries look up later: modules and settings of the cryptographic library, which
would be loaded in here; certificates to trust; the allocator's."""

DROPPED_NAMES = ("GCONV_PATH", "GLIBC_TUNABLES", "LOCPATH", "NLSPATH", "SSLKEYLOGFILE", "BASH_ENV", "ENV", "CTLOG_FILE")

KEPT = ("HOME", "PATH", "USER", "LOGNAME", "LANG", "TERM", "TMPDIR", "TZ", "NO_COLOR")
KEPT_BEGINNINGS = ("LC_", "FEMTOCLAW_")
KEPT_FOR_SUPERVISORS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Where a service manager wants to be told that a served node is ready and alive; no child of it gets them."""

KEPT_FOR_ARCHIVES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL",
)  # fmt: skip
"""What a start from scratch takes along, the last of these to reach archives in object stores; as ``scripts/femtoclaw``
does."""

REMEDY = "start it without this variable; `scripts/femtoclaw` and the installed command leave it out by themselves"


def drop(environ: MutableMapping[str, str]) -> None:
    """Take out what would bring code or trust in later. To be called before a library looks."""
    for name in [name for name in environ if name.startswith(DROPPED) or name in DROPPED_NAMES]:
        del environ[name]


def check(environ: MutableMapping[str, str]) -> None:
    """Raise Refused where this process was started with other libraries than the host's. The value is not repeated."""
    for name in sorted(environ):
        if name.startswith(LINKER) and environ[name]:
            raise Refused("ENVIRONMENT", "this process was started with other libraries than the host's", name,
                          "no such variable", "one with a value", REMEDY)  # fmt: skip


def kept() -> dict[str, str]:
    """This environment, reduced to what a verified process is started with."""
    named = (*KEPT, *KEPT_FOR_ARCHIVES, *KEPT_FOR_SUPERVISORS)
    return {name: value for name, value in os.environ.items() if name in named or name.startswith(KEPT_BEGINNINGS)}
