"""Other interpreters that a node starts, the fork server of the isolation first of all: under the same manifest."""

from __future__ import annotations

import os
import sys

from femtoclaw.launcher import sealed, start
from femtoclaw.launcher.refusal import EXIT_CODE, Refused, tell


def command(code: str, search_path: str) -> list[str]:
    """The command line of an interpreter that runs ``code`` (arguments may be added): isolated from the environment,
    and bound to the manifest that this process was verified with. ``search_path`` is one more folder with modules.

    In a process that nothing verified, modules come from ``search_path`` and the interpreter's own folders.
    """
    found = start.verified
    if found is None:
        return [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {search_path!r}); {code}"]
    more = "" if search_path == found.root else f"sys.path.append({search_path!r}); "
    begin = start.stub("child", "adopt", found.root, found.manifest.digest)
    return [sys.executable, "-I", "-S", "-c", f"{begin}; {more}{code}"]


def adopt(root: str, digest: str) -> None:
    """Load from the manifest with this hash, which the parent has verified, and from nothing else. Ends the process
    with code 3 when it is another."""
    from femtoclaw.launcher.loading import Distribution, install

    sys.path[:] = [folder for folder in sys.path if folder != root]
    where = os.path.join(root, sealed.FOLDER, start.MANIFEST_FILE)
    try:
        raw = sealed.read(where, sealed.MANIFEST_BYTES_MAX)
        found = sealed.hasher("sha256")(raw).hexdigest()
        if found != digest:
            raise Refused("HASH_MISMATCH", "the manifest was exchanged while the node ran", where, digest, found)
        manifest = sealed.parse(sealed.split(raw)[0], digest, where)
        start.check_interpreter(manifest)
        distribution = Distribution(root, manifest)
    except OSError as error:
        print(f"femtoclaw: {where}: {error.strerror}", file=sys.stderr)
        os._exit(EXIT_CODE)
    except Refused as refused:
        os._exit(tell(refused, False))
    install(distribution)
