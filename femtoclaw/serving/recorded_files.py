"""The operator's files of a member, as the log says that they are.

On a single node an edited file stops a start, and an operator adopts it. A member's files follow: configuration and policy
are changed at whoever leads, and the other members learn them from the log. So before a member leads, what differs is set aside,
and the recorded content takes its place: nothing unrecorded comes into force in either way.
"""

from __future__ import annotations

import json
import os

from femtoclaw import config
from femtoclaw.config_sources import gather, resolve_sources
from femtoclaw.errors import ConfigurationError, SecurityError
from femtoclaw.home import Home
from femtoclaw.restore import load_state
from femtoclaw.state import Node
from wal.durable_file import read_file, write_file
from wal.reader import LogReader

ASIDE = ".unrecorded"
"""Behind the name of a file that was not what the log says; the newest one is kept."""


def follow_record(home: Home, reader: LogReader) -> tuple[str, ...]:
    """Bring configuration and policy to what the log says; return the paths that were changed. Raises HistoryError,
    EventFormatError, LogError, and ConfigurationError where other sources of the configuration contradict the record."""
    node = load_state(reader, reader.head.index).node
    changed = []
    if not _is_recorded(home, node):
        _replace(home.config_file, configuration_text(node.configuration.content))
        changed.append(home.config_file)
        if not _is_recorded(home, node):
            raise ConfigurationError(
                "the configuration's other sources contradict the record", where=home.config_file,
                expected=node.configuration.digest[:16], found="another",
                remedy="see `femtoclaw config show --origin`: deployment.toml or the environment says otherwise",
            )  # fmt: skip
    check_places(home, node)
    policy = home.inside(json.loads(node.configuration.content)["policy"]["file"])
    if read_file(policy) != node.policy.text.encode():
        _replace(policy, node.policy.text.encode())
        changed.append(policy)
    return tuple(changed)


def configuration_text(content: bytes) -> bytes:
    """A TOML file that resolves to this canonical configuration."""
    import tomlkit

    head = "# As the log of this cluster says. Changed with `femtoclaw config set` at whoever leads.\n\n"
    return (head + tomlkit.dumps(json.loads(content))).encode()


def _is_recorded(home: Home, node: Node) -> bool:
    try:
        return config.canonical(resolve_sources(gather(home), None)) == node.configuration.content
    except ConfigurationError:
        return False


def _replace(path: str, raw: bytes) -> None:
    before = read_file(path)
    if before is not None:
        write_file(path + ASIDE, before)
        os.chmod(path + ASIDE, 0o600)
    write_file(path, raw)


def check_places(home: Home, node: Node) -> None:
    """That the recorded policy may be written where the recorded configuration says: whoever made the log has not to decide over
    other files of this machine. A file elsewhere must hold that policy already.

    Raises SecurityError.
    """
    path = home.inside(json.loads(node.configuration.content)["policy"]["file"])
    inside = os.path.dirname(os.path.realpath(path)) == os.path.realpath(home.path) and path.endswith(".cedar")
    if inside or (os.path.isfile(path) and read_file(path) == node.policy.text.encode()):
        return
    raise SecurityError(
        "the log's configuration has its policy in a file that is not this home's to write", where=path,
        expected="a file of the home itself whose name ends in .cedar, or one that holds the recorded policy already",
        remedy="if you trust the cluster, put its policy there yourself (`femtoclaw policy show` at a member); then run it again",
    )  # fmt: skip
