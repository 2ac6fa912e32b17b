"""The launcher: compares the distribution with its signed manifest, then hands over to the command line.

It is started as ``python -I -S -c 'from femtoclaw.launcher.start import main; main(ROOT)'``: without environment
variables of the interpreter, site-packages, ``.pth`` files, ``sitecustomize`` or the working directory on the module
search path. Commands that only read are not verified: they are no runtime, and cannot open the node for work.
"""

from __future__ import annotations

import os
import sys

from femtoclaw.launcher import environment, sealed
from femtoclaw.launcher.refusal import REVOKED_REMEDY, Misused, Refused, note, record, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.launcher.sweep import Sweep

RELEASE_KEYS: tuple[str, ...] = ()
"""Public keys whose manifests any machine trusts. Empty until there is a release: each machine seals for itself."""

READING = ("log", "status", "show", "verify", "replay", "proof", "export", "demo")
"""Commands that open no node of the operator's for work. ``demo`` makes one of its own, and removes it."""

REPIN = ("distribution",)
"""Commands with which an operator accepts another distribution: verified, but not held against the home's pin."""

REPAIR = ["release", "repair"]
"""What is done for an installation that nothing can be started from any more: by the launcher alone."""

SHORT = ("run", "intent")
"""Commands that load few of the large libraries: they verify one when they load it, the others verify all at once."""

INTERRUPTED = 130
"""The exit code of what Ctrl-C has ended."""

KEY_FILE = "key.pub"
MANIFEST_FILE = "manifest"


class Verified:
    """What the launcher found. ``anchor`` is the key, ``trust`` why it is trusted: pin, release, first use."""

    def __init__(self, root: str, manifest: sealed.Manifest, anchor: str, trust: str, sweep: Sweep) -> None:
        self.root = root
        self.manifest = manifest
        self.anchor = anchor
        self.trust = trust
        self.sweep = sweep


verified: Verified | None = None
"""Set in a process whose modules all come from verified bytes; None in every other."""


def main(root: str) -> None:
    """Verify, hand over, and end with the command's exit code: 3 when something is not what was sealed."""
    global verified
    sys.path[:] = [folder for folder in sys.path if folder != root]
    words = sys.argv[1:]
    home, at_work = locate_home(words), False
    try:
        if _plain_words(words)[:2] == REPAIR:
            from femtoclaw.launcher import repair

            environment.check(os.environ)
            environment.drop(os.environ)
            at_work = True
            sys.exit(repair.main(root, home, _plain_words(words)[2:], "--json" in words))
        if reads_only(words):
            environment.drop(os.environ)
            _plain(root)
        else:
            environment.check(os.environ)
            environment.drop(os.environ)  # before anything of the cryptographic library is loaded, which looks at it
            verified = verify(root, home, check_pin=_command(words) not in REPIN, defer=_command(words) in SHORT)
            if verified is None:
                note("nothing was verified: this distribution is not sealed (see docs/boot.md)")
                _plain(root)
            else:
                _bind_children()
        from femtoclaw.__main__ import main as hand_over

        at_work = True
        hand_over()
    except KeyboardInterrupt:
        if at_work:
            raise  # the program tells of it by itself, and knows whether something was changed
        os.write(2, b"femtoclaw: interrupted\n  next      nothing was changed; run it again\n  exit code 130\n")
        os._exit(INTERRUPTED)
    except Misused as misused:
        os._exit(tell(misused, "--json" in words))
    except Refused as refused:
        record(refused, home, verified.anchor if verified is not None else "")
        os._exit(tell(refused, "--json" in words))


def verify(root: str, home: str | None, *, check_pin: bool = True, defer: bool = False) -> Verified | None:
    """Compare the distribution at ``root`` with its manifest and with what ``home`` trusts, and have it loaded from
    verified bytes from now on. None when it was never sealed and the home does not ask for it. Raises Refused."""
    pin = sealed.read_pin(home) if home is not None and check_pin else None
    if pin is not None and pin.state != "sealed":
        pin = None
    where = os.path.join(root, sealed.FOLDER, MANIFEST_FILE)
    try:
        raw = sealed.read(where, sealed.MANIFEST_BYTES_MAX)
    except FileNotFoundError:
        if pin is None:
            return None
        raise Refused("NOT_SEALED", "the distribution's manifest is gone", where, pin.digest, "nothing") from None
    except OSError as error:
        raise Refused("BAD_MANIFEST", "the manifest cannot be read", where, "a file", str(error.strerror)) from None
    digest = sealed.hasher("sha256")(raw).hexdigest()
    pin = pin.for_digest(digest) if pin is not None else None
    key, trust = _anchor(root, raw, pin)
    manifest = sealed.parse(sealed.check_signature(raw, key, where), digest, where)
    if pin is not None:
        _check_pin(pin, manifest, where)
    check_interpreter(manifest)
    from femtoclaw.launcher import loading
    from femtoclaw.launcher.sweep import Sweep

    sweep = Sweep(root, manifest, defer=defer)
    sweep.begin()
    distribution = loading.Distribution(root, manifest, sweep)
    distribution.read_code()
    loading.install(distribution)
    return Verified(root, manifest, key, trust, sweep)


def _anchor(root: str, raw: bytes, pin: sealed.Pin | None) -> tuple[str, str]:
    """The key that the manifest must be signed with, and why it is trusted. Raises Refused."""
    if pin is not None:
        if pin.key in pin.revoked:
            what = "the distribution's key was revoked"
            raise Refused("REVOKED_KEY", what, pin.key, "another key", "a revoked one", REVOKED_REMEDY)
        return pin.key, "pin"
    for key in RELEASE_KEYS:
        if f"\n{sealed.DASH}{key.partition('+')[0]} ".encode() in raw:
            return key, "release"
    where = os.path.join(root, sealed.FOLDER, KEY_FILE)
    try:
        return sealed.read(where, 1024).decode().strip(), "first use"
    except (OSError, ValueError):
        raise Refused("UNTRUSTED_KEY", "no key to trust is known", where, "a public key", "nothing") from None


def _check_pin(pin: sealed.Pin, manifest: sealed.Manifest, where: str) -> None:
    accept = f"an operator accepts it with `femtoclaw distribution accept {manifest.digest[:16]}`"
    if manifest.counter < pin.floor:
        raise Refused("ROLLBACK", "an older distribution than this home has had", where, f"version counter {pin.floor} "
                      "or more", str(manifest.counter))  # fmt: skip
    if manifest.digest != pin.digest:
        raise Refused("NOT_ACCEPTED", "another distribution than this home trusts", where, pin.digest, manifest.digest,
                      accept)  # fmt: skip


def interpreter() -> str:
    """Implementation, version, byte code's tag and machine of the running interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{sys.implementation.name} {version} {sys.implementation.cache_tag} {os.uname().machine}"


def check_interpreter(manifest: sealed.Manifest) -> None:
    """Raise Refused when this is another interpreter than the manifest's: version, or place and size of its files.

    Their hashes are compared by `femtoclaw distribution verify`: an altered interpreter need not tell the truth here.
    """
    where = os.path.realpath(sys.executable)
    if manifest.python != interpreter():
        raise Refused("WRONG_INTERPRETER", "another interpreter", where, manifest.python, interpreter())
    if manifest.host and where not in manifest.host:
        raise Refused("WRONG_INTERPRETER", "another interpreter", where, " or ".join(manifest.host), where)
    for path, entry in manifest.host.items():
        try:
            size = os.stat(path).st_size
        except OSError as error:
            raise Refused(
                "WRONG_INTERPRETER", "the interpreter is not whole", path, "a file", str(error.strerror)
            ) from None
        if size != entry.size:
            raise Refused("WRONG_INTERPRETER", "another interpreter", path, f"{entry.size} bytes", f"{size} bytes")


def reads_only(words: list[str]) -> bool:
    """True when the words can be nothing but a command that reads, or a call for help."""
    return words == ["--version"] or _command(words) in READING or bool({"--help", "-h"} & set(words[:2]))


def _command(words: list[str]) -> str:
    """The command, where only whole ``--home`` and ``--json`` stand before it; empty where it is not so plain."""
    return next(iter(_plain_words(words)), "")


def _plain_words(words: list[str]) -> list[str]:
    """The words from the command on."""
    rest = iter(words)
    for word in rest:
        if word == "--home":
            next(rest, None)
        elif not word.startswith("--home=") and word != "--json":
            return [word, *rest]
    return []


def locate_home(words: list[str]) -> str | None:
    """The home as the command line will find it; None when it is not plain. The pin is compared once more, with the
    home that was really opened, by ``femtoclaw.distribution.require``."""
    named: str | None = None
    for index, word in enumerate(words):
        if word == "--home" and index + 1 < len(words):
            named = words[index + 1]
        elif word.startswith("--home="):
            named = word[len("--home=") :]
    if named is None:
        named = os.environ.get("FEMTOCLAW_HOME") or os.path.expanduser("~/.femtoclaw")
    try:
        return os.path.abspath(named) if named and not named.startswith("~") else None
    except OSError:
        return None


def dependencies(root: str) -> str:
    """The folder of the installed packages: ``root`` itself, or that of the virtual environment that runs this."""
    if os.path.basename(root) in ("site-packages", "dist-packages"):
        return root
    place = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable)))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return os.path.join(place, "lib", version, "site-packages")


def _bind_children() -> None:
    """Other interpreters that the log starts are to load the same verified files."""
    from femtoclaw.launcher import child
    from wal import interpreter as interpreters

    interpreters.command = child.command


def _plain(root: str) -> None:
    """Let the interpreter find everything by itself, in these two folders."""
    sys.path += [root, dependencies(root)]


def enter() -> None:
    """The installed command: becomes the launcher in an interpreter that nothing of this one, nor of its environment but
    what a node reads, reaches."""
    if reads_only(sys.argv[1:]):
        from femtoclaw.__main__ import main as read

        read()
        return
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [sys.executable, "-I", "-S", "-c", stub("start", "main", root), *sys.argv[1:]]
    os.execve(sys.executable, command, environment.kept())


def stub(module: str, function: str, *arguments: str) -> str:
    """The program text with which an isolated interpreter runs a function of the launcher."""
    root, given = arguments[0], ", ".join(map(repr, arguments))
    return f"import sys; sys.path.append({root!r}); from femtoclaw.launcher.{module} import {function}; {function}({given})"
