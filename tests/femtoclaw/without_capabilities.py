"""Imported by a fork server: from then on it has the rights of an ordinary user, whoever started it.

Root keeps the one capability without which nobody may map user 0 into a user namespace; an ordinary user, whose number
is another, needs none for that.
"""

from __future__ import annotations

import ctypes
import os

_CAP_SETFCAP = 1 << 31

if os.geteuid() == 0:
    kept = (ctypes.c_uint32 * 6)(_CAP_SETFCAP, _CAP_SETFCAP)
    if ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), kept) != 0:
        raise OSError("the capabilities cannot be dropped")
