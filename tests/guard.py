"""What the list of guards is made of."""

from typing import NamedTuple


class Guard(NamedTuple):
    """``old`` in ``file`` becomes ``new``; then ``test`` must fail (and passes unchanged).

    A guard is ``slow`` when no test of its file that takes less than ten seconds fails without it: the suite takes one of
    those a run, ``scripts/guards_campaign.py`` all.
    """

    invariant: str
    what: str
    file: str
    old: str
    new: str
    test: str
    slow: bool = False
