"""Measurement of a cluster: three machines on this one, made by this program, of which the leader is killed at work."""

from __future__ import annotations

import subprocess
from typing import Any

from femtoclaw.cli.cluster_demo_machines import command, environment
from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.compliance.laboratory import Laboratory, read_objects

CLUSTER_S = 240.0
STEPS = ("made", "asked", "killed", "compared", "rejoined", "verified", "stopped", "exported")


def cluster(laboratory: Laboratory) -> dict[str, Any]:
    """What `demo --cluster --static` proved, by its steps. Raises CannotMeasureError where the cluster's libraries are missing."""
    try:
        done = subprocess.run(
            command("--json", "demo", "--cluster", "--static"), capture_output=True, timeout=CLUSTER_S, check=False,
            env=environment(), cwd=laboratory.folder, start_new_session=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CannotMeasureError(f"the cluster did not end within {CLUSTER_S:g} s") from None
    bodies = read_objects(done.stdout)
    body = bodies[-1] if bodies and isinstance(bodies[-1], dict) else {}
    if not body.get("steps"):
        raise CannotMeasureError(f"no cluster could be made here: {done.stderr.decode(errors='replace')[-300:]}")
    found = dict(zip(STEPS, body["steps"], strict=False))
    return {"ok": bool(body.get("ok")) and done.returncode == 0, **found}
