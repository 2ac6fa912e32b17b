"""The guards behind the invariants, as data: what to switch off, and which test must then fail.

They stand in ``tests/guards_*.py`` by area. ``tests/test_guards.py`` switches each off in a copy of the sources and runs the
test there. ``docs/testing.md`` shows the same list, as ``python -m tests.guards`` prints it.
"""

from __future__ import annotations

from tests.guard import Guard
from tests.guards_api import GUARDS as API
from tests.guards_approvals import GUARDS as APPROVALS
from tests.guards_archive import GUARDS as ARCHIVE
from tests.guards_authority import GUARDS as AUTHORITY
from tests.guards_claws import GUARDS as CLAWS
from tests.guards_cluster import GUARDS as CLUSTER
from tests.guards_control import GUARDS as CONTROL
from tests.guards_coordinators import GUARDS as COORDINATORS
from tests.guards_following import GUARDS as FOLLOWING
from tests.guards_forgery import GUARDS as FORGERY
from tests.guards_home import GUARDS as HOME
from tests.guards_hostility import GUARDS as HOSTILITY
from tests.guards_isolation import GUARDS as ISOLATION
from tests.guards_key_rotation import GUARDS as KEY_ROTATION
from tests.guards_log import GUARDS as LOG
from tests.guards_membership import GUARDS as MEMBERSHIP
from tests.guards_modules import GUARDS as MODULES
from tests.guards_policy import GUARDS as POLICY
from tests.guards_replica import GUARDS as REPLICA
from tests.guards_secrets import GUARDS as SECRETS
from tests.guards_start import GUARDS as START
from tests.guards_subjects import GUARDS as SUBJECTS
from tests.guards_wire import GUARDS as WIRE
from tests.guards_witness import GUARDS as WITNESS

GUARDS = (
    *(*LOG, *KEY_ROTATION, *REPLICA, *FOLLOWING, *CLUSTER, *WITNESS),
    *(*WIRE, *COORDINATORS, *ARCHIVE, *MEMBERSHIP, *API),
    *(*AUTHORITY, *POLICY, *APPROVALS, *CONTROL),
    *(*CLAWS, *ISOLATION, *MODULES, *HOSTILITY),
    *(*SECRETS, *SUBJECTS, *START, *HOME, *FORGERY),
)


def table(guards: tuple[Guard, ...] = GUARDS) -> str:
    """The list in Markdown, by invariant."""
    rows = ["| invariant | guard | where | test |", "|---|---|---|---|"]
    for guard in sorted(guards, key=lambda guard: int(guard.invariant[1:])):
        rows.append(f"| {guard.invariant} | {guard.what} | `{guard.file}` | `{guard.test}` |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(table(), end="")
