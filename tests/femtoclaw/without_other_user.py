"""Imported by a fork server: from then on root may not change its user, and claws keep root's."""

from __future__ import annotations

from femtoclaw.isolation import credentials

credentials.is_root = lambda: False
