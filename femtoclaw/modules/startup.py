"""At start: are the files of the modules that may be called the ones that were installed? (BOOT-9.1)

Each load verifies them again; this says it before anybody calls.
"""

from __future__ import annotations

from collections.abc import Iterator

from femtoclaw.isolation.loading import preloads
from femtoclaw.manifest import Manifest, manifest_from_canonical
from femtoclaw.modules.refusal import Refusal
from femtoclaw.modules.store import verify_installed
from femtoclaw.state import Node


def faults(modules: str, node: Node) -> Iterator[Refusal]:
    """A refusal for each enabled module whose files in the store ``modules`` are not those of its manifest."""
    for manifest in _enabled(node):
        found = verify_installed(modules, manifest)
        if found is not None:
            yield found


def entry_modules(node: Node) -> tuple[str, ...]:
    """What the fork server should import once for the enabled modules."""
    return preloads([manifest.entry for manifest in _enabled(node)])


def _enabled(node: Node) -> Iterator[Manifest]:
    for _, claw in sorted(node.registry.items()):
        if claw.enabled and claw.publisher:
            yield manifest_from_canonical(claw.manifest)
