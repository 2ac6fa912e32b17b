"""What is recorded of a refused module: *ModuleRejected*, at a start and at a load (ABI-4.1, ABI-8.1, BOOT-9.1)."""

from __future__ import annotations

from femtoclaw import commands
from femtoclaw.modules.refusal import Refusal, refused_at_load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.authority import Authority
    from femtoclaw.isolation.outcome import Outcome
    from femtoclaw.manifest import Manifest


def record(authority: Authority, refusal: Refusal) -> None:
    """Have it recorded. Raises what ``Authority.perform`` raises."""
    authority.perform(commands.RejectModule(refusal.name, refusal.code, refusal.detail, refusal.digest))


def record_outcome(authority: Authority, manifest: Manifest, outcome: Outcome) -> None:
    """Have it recorded when the outcome says that an installed module was not loaded; else nothing."""
    if manifest.files and outcome.error is not None:
        refusal = refused_at_load(outcome.error.get("message"), manifest.name, manifest.digest())
        if refusal is not None:
            record(authority, refusal)


def record_faults(authority: Authority, modules: str) -> list[Refusal]:
    """Look at the files of the enabled modules in the store ``modules`` and have it recorded where they are others."""
    node = authority.state.node
    if not any(claw.publisher and claw.enabled for claw in node.registry.values()):
        return []
    from femtoclaw.modules.startup import faults

    found = list(faults(modules, node))
    for refusal in found:
        record(authority, refusal)
    return found
