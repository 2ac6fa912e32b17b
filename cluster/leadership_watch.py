"""Waits, on a thread of its own, for the end of a leadership that somebody else wants: it may take as long as a lease."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cluster.coordinator import Coordinator
from cluster.errors import ClusterError, CoordinatorUnavailableError

SLICE_S = 2.0
"""One call of the coordinator: so long may it take until nothing is waited for any more."""

UNAVAILABLE_S = 0.5
"""Pause after a call that was not answered."""


class LeadershipWatch:
    """Calls ``changed`` whenever the leadership may be another one, from ``begin`` until ``rest``, or until nobody waits."""

    def __init__(self, coordinator: Coordinator, waits: Callable[[], bool], changed: Callable[[], None]) -> None:
        """``waits`` (whether it is still waited for) and ``changed`` are called on this object's thread."""
        self._coordinator = coordinator
        self._waits = waits
        self._changed = changed
        self._asked = threading.Condition()
        self._watching = self._over = False
        self._thread = threading.Thread(target=self._run, name="cluster-watch", daemon=True)

    def start(self) -> None:
        """Have the thread ready."""
        self._thread.start()

    def begin(self) -> None:
        """Watch from now on."""
        with self._asked:
            self._watching = True
            self._asked.notify()

    def rest(self) -> None:
        """Watch no more; a call that is under way ends by itself, and is told to nobody."""
        with self._asked:
            self._watching = False

    def stop(self) -> None:
        """End. A call that is under way ends with the coordinator's ``close``, or with its slice."""
        with self._asked:
            self._watching, self._over = False, True
            self._asked.notify()

    def join(self) -> None:
        """Wait for the thread's end."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._asked:
                self._asked.wait_for(lambda: self._watching or self._over)
                if self._over:
                    return
            try:
                changed = self._coordinator.wait_change(SLICE_S)
            except CoordinatorUnavailableError:
                with self._asked:
                    self._asked.wait_for(lambda: self._over, UNAVAILABLE_S)
                continue
            except ClusterError:
                self.rest()  # whoever campaigns next meets the same, and tells
                continue
            if not self._waits():
                self.rest()
            elif changed and self._watching:
                self._changed()
