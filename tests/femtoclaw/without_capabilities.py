"""Imported by a fork server: from then on it has the rights of an ordinary user, whoever started it."""

from __future__ import annotations

from femtoclaw.isolation import kernel

kernel.drop_capabilities()
