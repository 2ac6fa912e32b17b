"""Imported by a fork server: from then on its supervisors give up at once on what does not die at once."""

from __future__ import annotations

from femtoclaw.isolation import supervisor

supervisor.REAP_SECONDS_MAX = -1.0
