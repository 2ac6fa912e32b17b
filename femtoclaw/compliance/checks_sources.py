"""Checks that read this installation's own source files."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.sources import (
    CODE_CALLS,
    CORE,
    CORE_IMPORTS,
    CORE_LINES_MAX,
    DATA_AS_CODE,
    NATIVE,
    PACKAGES,
    sources,
)


@shows("WHITE-2.5")
def the_core_is_small(laboratory: Laboratory) -> str:
    """Validator, gate, dispatcher and log are below their published number of lines and import nothing that is not listed."""
    import sys

    found = laboratory.once(sources)
    every(((name, name in found) for name in CORE), "each file of the core")
    lines = sum(found[name].lines for name in CORE)
    need(lines <= CORE_LINES_MAX, f"at most {CORE_LINES_MAX} lines", lines)
    foreign = {root for name in CORE for root in found[name].roots} - set(sys.stdlib_module_names) - set(PACKAGES)
    need(foreign <= CORE_IMPORTS, f"only {', '.join(sorted(CORE_IMPORTS))}", sorted(foreign - CORE_IMPORTS))
    return f"{len(CORE)} files, {lines} of {CORE_LINES_MAX} lines; others' libraries: {', '.join(sorted(foreign))}"


@shows("WHITE-3.1", "ARCH-3.1", "WHITE-10.1")
def brains_reach_no_tools(laboratory: Laboratory) -> str:
    """Five parts, each a module; brains import neither gate nor isolation nor registry, and imports go one way."""
    found = laboratory.once(sources)
    parts = (
        "femtoclaw/runtime.py",
        "femtoclaw/brains/__init__.py",
        "femtoclaw/protocol.py",
        "femtoclaw/gate.py",
        "femtoclaw/isolation/__init__.py",
    )
    every(((name, name in found) for name in parts), "each part")
    forbidden = ("femtoclaw.gate", "femtoclaw.isolation", "femtoclaw.authority", "femtoclaw.runtime", "femtoclaw.claws")
    brains = [source for name, source in found.items() if name.startswith("femtoclaw/brains/")]
    for source in brains:
        reached = [name for name in source.imports if name.startswith(forbidden)]
        need(not reached, f"no tools in {source.name}", reached)
    allowed = {"wal": {"wal"}, "cluster": {"cluster", "wal"}, "femtoclaw": set(PACKAGES)}
    for name, source in found.items():
        package = name.split("/")[0]
        need(
            source.roots & set(PACKAGES) <= allowed[package],
            f"imports leftward in {name}",
            sorted(source.roots & set(PACKAGES)),
        )
    return f"{len(found)} files; {len(brains)} of brains without gate, isolation, authority and claws"


@shows("PROTO-6.2", "WHITE-2.4")
def data_is_never_code(laboratory: Laboratory) -> str:
    """No eval, exec, pickle, YAML or shell string anywhere; native pointers only where processes of their own hold them."""
    found = laboratory.once(sources)
    for name, source in found.items():
        need(
            not source.roots & DATA_AS_CODE,
            f"no {', '.join(sorted(DATA_AS_CODE))} in {name}",
            source.roots & DATA_AS_CODE,
        )
        called = CODE_CALLS & set(source.calls)
        need(not called, f"no code made of data in {name}", called)
        need(not source.shells, f"no shell in {name}")
    native = sorted(name for name, source in found.items() if source.roots & NATIVE)
    every(
        (
            (name, name.split("/")[1] in ("isolation", "sdk", "modules", "launcher") or name in ALLOWED_NATIVE)
            for name in native
        ),
        "native code aside",
    )
    need(not set(native) & set(CORE), "no native pointers in the core", native)
    return f"{len(found)} files; native code in {', '.join(native)}"


ALLOWED_NATIVE = frozenset(("femtoclaw/keys.py", "wal/replacement.py"))
"""Where libc is called for what Python does not offer: no core dumps, and two folders that change places in one step."""


ALLOWED_RANDOM = frozenset(("femtoclaw/projections/binding.py", "femtoclaw/serving/member.py"))
"""Which record is looked at again, and how long a member waits."""


@shows("CRYPTO-22.1")
def chance_comes_from_the_system(laboratory: Laboratory) -> str:
    """The random module spreads waiting times and picks samples, and draws nothing else; ids and nonces come from the system."""
    found = laboratory.once(sources)
    users = [name for name, source in found.items() if "random" in source.roots and name not in ALLOWED_RANDOM]
    need(not users, "no random module", users)
    need(not set(ALLOWED_RANDOM) & set(CORE), "none in the core")
    drawn = [name for name, source in found.items() if "os.urandom" in source.calls or "secrets" in source.roots]
    need("femtoclaw/sources.py" in drawn, "ids from os.urandom", drawn[:3])
    return f"{len(found)} files ; random in {', '.join(sorted(ALLOWED_RANDOM))}; the system's chance in {len(drawn)}"


@shows("WHITE-1.2", "ARCH-5.1")
def there_is_one_way_to_an_effect(laboratory: Laboratory) -> str:
    """`Gate.dispatch` has one call site, and the sandbox is run from the gate, or where a module is tried without a node."""
    found = laboratory.once(sources)
    dispatching = [name for name, source in found.items() if any(call.endswith(".dispatch") for call in source.calls)]
    running = sorted(
        name for name, source in found.items() if any(call.endswith("isolation.run") for call in source.calls)
    )  # fmt: skip
    need(dispatching == ["femtoclaw/runtime.py"], "one call site of dispatch", dispatching)
    need(
        running == ["femtoclaw/gate.py", "femtoclaw/modules/probe.py", "femtoclaw/sdk/testing.py"],
        "the gate, and trials",
        running,
    )
    return f"dispatch in {dispatching[0]}; the sandbox in {', '.join(running)}"


@shows("ERROR-14.1")
def no_error_is_swallowed_bare(laboratory: Laboratory) -> str:
    """No bare except in any file; hashes and signatures come from a few modules that are listed."""
    found = laboratory.once(sources)
    bare = [name for name, source in found.items() if source.bare_excepts]
    need(not bare, "no bare except", bare)
    signing = sorted(name for name, source in found.items() if "nacl" in source.roots)
    need(0 < len(signing) <= 12, "signatures in a few modules", signing)
    return f"{len(found)} files without a bare except; signatures in {', '.join(signing)}"
