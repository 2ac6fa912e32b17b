"""Imported by a fork server: from then on it is as on a kernel that grants no namespace."""

from __future__ import annotations

from femtoclaw.isolation import namespace

namespace.WANTED = ()
