"""Imported by a fork server: from then on it is as on a machine for which there is no filter of system calls."""

from __future__ import annotations

from femtoclaw.isolation import seccomp

seccomp.ours = lambda: None
