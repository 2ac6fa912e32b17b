"""The files of a node at work against what is recorded and verified: the program's, the configuration, the policy."""

from __future__ import annotations

from femtoclaw import config, distribution
from femtoclaw.api.executor import NotTakenError
from femtoclaw.api.own_files import alone
from femtoclaw.config_sources import gather, resolve_sources
from femtoclaw.distribution_watch import distribution_changed
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home
from femtoclaw.incidents.detection import Files
from femtoclaw.integrity import takes_files
from femtoclaw.launcher import sealed, start
from femtoclaw.state import Node
from wal.durable_file import read_file
from wal.errors import LogError
from wal.note import PublicKey, open_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def look_at_files(home: Home, node: Callable[[], Node], key: PublicKey, *, own: bool = True) -> Files:
    """What of the files is not as it was verified and recorded. ``node`` says what is recorded now, ``key`` is the log's; ``own``:
    whether configuration and policy of this home are in force here (a member that follows takes them from the log before it leads).

    No change that is under way is taken for tampering: whoever stages files of the home has a lock on it, and while somebody has
    it for long the two are not looked at. Does not raise for what it finds.
    """
    changed = tuple(path for path in distribution_changed(home) if not _own_pin(home, path, key))
    if not own:
        return Files(changed, sealed=start.verified is not None)
    try:
        with alone(home):
            recorded = node()
            if takes_files(recorded):
                return Files(changed, sealed=start.verified is not None)
            return Files(
                changed, configuration_difference(home, recorded), policy_difference(home, recorded),
                start.verified is not None,
            )  # fmt: skip
    except (NotTakenError, OSError):
        return Files(changed, sealed=start.verified is not None)


def _own_pin(home: Home, path: str, key: PublicKey) -> bool:
    """Whether this is the home's pin, and the node itself signed it: an operator has had another distribution accepted."""
    if path != distribution.pin_path(home):
        return False
    try:
        return bool(open_note(sealed.read(path, sealed.PIN_BYTES_MAX), [key]).verified)
    except (LogError, OSError):
        return False


def configuration_difference(home: Home, node: Node) -> str:
    """Empty where the sources of the configuration give what is recorded, else what is otherwise: never a value (I12)."""
    recorded = f"configuration version {node.configuration.version}"
    try:
        effective = resolve_sources(gather(home), None)
    except FemtoClawError as error:
        return f"{home.config_file} is not {recorded}: {error.what}"
    found = config.canonical(effective)
    if found == node.configuration.content:
        return ""
    return f"{home.config_file} and the other sources are not {recorded} but {config.digest(found)[:16]}"


def policy_difference(home: Home, node: Node) -> str:
    """Empty where the policy file is what is recorded, else what is otherwise."""
    from femtoclaw.recorded import recorded_configuration

    try:
        named = recorded_configuration(node.configuration.content)["policy"]["file"]
        path = home.inside(str(named))
        raw = read_file(path)
    except (FemtoClawError, OSError, KeyError, TypeError) as error:
        return f"the policy file cannot be read: {type(error).__name__}"
    if raw == node.policy.text.encode():
        return ""
    return f"{path} is not policy version {node.policy.version}" if raw is not None else f"{path} is gone"
