"""A signed list of the files in the key folder: one that was added, replaced or removed by hand is named.

The list is a signed note: a heading, then for each file its BLAKE3, the id of the key in it, and its name. It protects
files only. Which keys are trusted, and for what, is in the log. While a change is under way the list allows both what
was and what will be, so that a crash between two files is no finding.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from femtoclaw.errors import ConfigurationError, SecurityError
from femtoclaw.home import read_bounded
from femtoclaw.key_file import stated_key
from wal.durable_file import sync_folder, temporary_name, write_file
from wal.errors import LogError
from wal.note import PublicKey, Signer, open_note, sign_note

HEADING = "femtoclaw keys v1"
FILE_NAME = "index.note"
FILES_MAX = 4096
FILE_BYTES_MAX = 64 * 1024
_NAME_CHARS_MAX = 120
_INDEX_BYTES_MAX = 1024 * 1024
_ABSENT = "-"
_TEMPORARY = temporary_name("")
REMEDY = "find out who changed it; put the file back as it was, or change keys with `femtoclaw key` and not by hand"


class Entry(NamedTuple):
    """What may stand under one name: digests in hex, ``-`` for no file; and the id of the key that belongs there."""

    allowed: tuple[str, ...]
    key_id: str


class Finding(NamedTuple):
    """One file that is not as the index says: ``how`` is added, replaced or removed."""

    path: str
    how: str
    expected: str
    found: str

    def error(self) -> SecurityError:
        """The same as an error."""
        return SecurityError(
            f"a key file was {self.how} by hand",
            where=self.path,
            expected=self.expected,
            found=self.found,
            remedy=REMEDY,
        )


def find_changes(folder: str, known: Sequence[PublicKey]) -> list[Finding] | None:
    """What is not as the index says, None when there is no index.

    Raises SecurityError when the index is not signed by one of the ``known`` keys or is malformed, ConfigurationError
    when a file cannot be read.
    """
    index = read_index(folder, known)
    return None if index is None else list(_compare(folder, index, _scan(folder)))


def read_index(folder: str, known: Sequence[PublicKey]) -> dict[str, Entry] | None:
    """The entries by name, None when there is no index. Raises as ``find_changes``."""
    path = os.path.join(folder, FILE_NAME)
    if not os.path.lexists(path):
        return None
    raw = read_bounded(path, _INDEX_BYTES_MAX)
    try:
        text = open_note(raw, known).text
    except LogError as error:
        raise SecurityError(
            "the index of the keys is not signed by this node's key", where=path, expected=[key.vkey() for key in known],
            found=error.what, remedy=REMEDY,
        ) from None  # fmt: skip
    heading, *lines = text.split("\n")[:-1]
    fields = [line.split(" ") for line in lines]
    if heading != HEADING or any(len(field) != 3 for field in fields):
        raise SecurityError("the index of the keys is malformed", where=path, expected=HEADING, remedy=REMEDY)
    return {name: Entry(tuple(allowed.split(",")), key_id) for allowed, key_id, name in fields}


def _compare(folder: str, index: Mapping[str, Entry], there: Mapping[str, Entry]) -> Iterator[Finding]:
    for name in sorted(index.keys() | there.keys()):
        expected = index.get(name, Entry((_ABSENT,), _ABSENT))
        found = there.get(name, Entry((_ABSENT,), _ABSENT))
        if found.allowed[0] in expected.allowed:
            continue
        how = "added" if name not in index else "removed" if name not in there else "replaced"
        yield Finding(os.path.join(folder, name), how, _told(expected), _told(found))


def _told(entry: Entry) -> str:
    if entry.allowed == (_ABSENT,):
        return "no file"
    return f"key {entry.key_id}" if entry.key_id != _ABSENT else "a file without a key id"


def _scan(folder: str) -> dict[str, Entry]:
    """Every file below the folder but the index and what a crash left half written. Raises ConfigurationError, also
    for what is neither file nor folder, and for more than ``FILES_MAX``."""
    found: dict[str, Entry] = {}
    for name in _files(folder, ""):
        if name == FILE_NAME or os.path.basename(name).startswith(_TEMPORARY):
            continue
        if len(found) == FILES_MAX:
            raise ConfigurationError("there are too many key files", where=folder, expected=f"<= {FILES_MAX}")
        found[name] = _entry(os.path.join(folder, name))
    return found


def _files(folder: str, prefix: str) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigurationError("the key folder cannot be read", where=folder, found=error.strerror) from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name


def _entry(path: str) -> Entry:
    return entry_of(read_bounded(path, FILE_BYTES_MAX), path)


def entry_of(raw: bytes, path: str) -> Entry:
    """The entry of a file's bytes. The id is the name and short hash of the key that the file says it holds."""
    from blake3 import blake3

    key: PublicKey | None
    try:
        key = PublicKey.parse(raw.decode().strip())
    except (LogError, ValueError):
        try:
            key = stated_key(raw, path)
        except ConfigurationError:
            key = None
    key_id = _ABSENT if key is None else f"{key.name}+{key.key_id.hex()}"
    return Entry((blake3(raw).hexdigest(),), key_id)


def write_index(folder: str, signers: Sequence[Signer]) -> None:
    """Sign what is there now, whatever it is: for a new home, or after an operator has looked at every file.

    Raises ConfigurationError, or LogFailedError when it cannot be written.
    """
    _write(folder, _scan(folder), signers)


def change_files(
    folder: str, changes: Mapping[str, bytes | None], *, during: Sequence[Signer], after: Sequence[Signer]
) -> None:
    """Write the files, or remove those that become None, in the order given, and keep the index true at every moment.

    ``during`` sign the index that allows both, ``after`` the last one. Raises SecurityError when something was changed
    by hand before (nothing is written then: a new index would make it look right), ConfigurationError, LogFailedError.
    """
    known = [signer.public for signer in (*during, *after)]
    for finding in find_changes(folder, known) or ():
        raise finding.error()
    for name in changes:
        _check_name(name)
    there = _scan(folder)
    if os.path.lexists(os.path.join(folder, FILE_NAME)):
        _write(folder, there | {name: _between(there.get(name), raw, name) for name, raw in changes.items()}, during)
    for name, raw in changes.items():
        path = os.path.join(folder, name)
        if raw is not None:
            write_file(path, raw)
        elif os.path.lexists(path):
            os.unlink(path)
            sync_folder(os.path.dirname(path))
    write_index(folder, after)


def _between(before: Entry | None, raw: bytes | None, name: str) -> Entry:
    """The entry that allows what was and what will be."""
    old = before or Entry((_ABSENT,), _ABSENT)
    new = Entry((_ABSENT,), old.key_id) if raw is None else entry_of(raw, name)
    return Entry(tuple(dict.fromkeys(old.allowed + new.allowed)), new.key_id)


def _check_name(name: str) -> None:
    parts = name.split("/")
    if (
        len(name) > _NAME_CHARS_MAX
        or not all(part and part.isprintable() and part[0] != "." for part in parts)
        or " " in name
    ):
        raise ConfigurationError(
            "not a name for a key file", where=name[:_NAME_CHARS_MAX],
            expected=f"at most {_NAME_CHARS_MAX} printable characters without blanks, not beginning with a dot",
        )  # fmt: skip


def _write(folder: str, entries: Mapping[str, Entry], signers: Sequence[Signer]) -> None:
    for name in entries:
        _check_name(name)
    lines = [f"{','.join(entry.allowed)} {entry.key_id} {name}\n" for name, entry in sorted(entries.items())]
    write_file(os.path.join(folder, FILE_NAME), sign_note(f"{HEADING}\n{''.join(lines)}", signers))
