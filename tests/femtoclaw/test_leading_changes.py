"""When the member that leads takes an order to change the members."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from femtoclaw.membership import REMOVE, MembershipRefusedError
from femtoclaw.serving import leading
from femtoclaw.serving.leading import LeadingExecutor
from tests.wal.sample_cluster import STEPS


@pytest.mark.invariant("I2")
@pytest.mark.parametrize(
    ("commit", "taken"), [(3, False), (4, False), (8, False), (9, True)], ids=["change", "before", "epoch", "both"]
)
def test_a_change_waits_for_the_one_before_it_and_for_the_begin_of_the_epoch(
    monkeypatch: pytest.MonkeyPatch, commit: int, taken: bool
) -> None:
    """The record with which this epoch began is the first that says, once it is committed, that nothing of the leader of before is
    on its way to another majority. In mode `local` no receipt waits for it."""
    members = STEPS[-1]
    log = SimpleNamespace(keys=lambda: SimpleNamespace(newest=SimpleNamespace(members=members)))
    store = SimpleNamespace(membership_before=lambda: (4, None))
    driver = SimpleNamespace(name="a", commit=commit, begun=9, store=store)
    monkeypatch.setattr(leading, "member_of", lambda entry, where: members.members[-1])
    executor = LeadingExecutor(cast(Any, None), cast(Any, log), cast(Any, driver), print)
    order = cast(Any, SimpleNamespace(action=REMOVE, resource=members.members[-1].name, content=b"{}"))
    if taken:
        assert len(executor._after(order).members) == len(members.members) - 1
        return
    with pytest.raises(MembershipRefusedError) as refused:
        executor._after(order)
    assert refused.value.code == "ANOTHER_CHANGE"
