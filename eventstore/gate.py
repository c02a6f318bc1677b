"""Keep apart, in one process, those who use an environment and those who must be alone with it.

Whoever begins a transaction is a visit until it has ended. Closing, growing the map and opening the
files again wait until no other thread has a visit, and let none begin meanwhile. One visit at a
time has the turn to write. Visits are held weakly: what an interrupt cuts off at any point is gone
when its frames are, so nothing is left locked. A traceback may keep frames for long; so what ends
something is called once more, in place, where an interrupt comes in between. All waits are polls,
so none can be lost.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import ref

from eventstore.errors import StoreClosedError, StoreForkedError, StoreUsageError

POLL_SECONDS = 0.05
PATIENCE_POLLS = 20


class Visit:
    """One transaction of one thread, from before it begins until after it has ended."""

    __slots__ = ("__weakref__", "thread")

    def __init__(self) -> None:
        """Count from now, for the thread that calls."""
        self.thread = threading.get_ident()


class Gate:
    """Who is in an environment, whose turn it is to write, and who waits to be alone."""

    def __init__(self, path: Path) -> None:
        """Let nobody in yet; what is let in to is `_env`, the environment at `path`."""
        self.path = path
        self._new_gate()
        self._visits: set[ref[Visit]] = set()
        self._turn: ref[Visit] | None = None
        self._queue: list[ref[Visit]] = []  # who waits for the turn
        # What a read may begin on without the gate; None while it must not. It is taken away, under
        # the gate, before anybody waits for the visits to end; a read adds its visit before it
        # looks here, so that one of the two sees the other.
        self._ready: Any = None
        self._growing = self._closing = False
        self._broken = False  # the files must be opened again
        self._pid = os.getpid()
        self._env: Any = None

    def _new_gate(self) -> None:
        # An interrupt within the `with` of a condition, which is Python, would leave it locked for
        # ever; that of a lock is not to be interrupted.
        self._guard = threading.RLock()
        self._gate = threading.Condition(self._guard)

    def forget_locks(self) -> None:
        """Let a child of `fork` meet no lock of a thread that it does not have."""
        self._new_gate()
        # LMDB opens a path once a process; letting go here allows the child to open its own.
        self._env = self._ready = None

    def _connect_again(self) -> None:
        """Open the files again; if that fails, the next transaction tries once more."""
        raise NotImplementedError

    def _enter(self, visit: Visit) -> Any:
        while True:
            with self._guard:
                while self._growing:
                    self._gate.wait(POLL_SECONDS)
                self._check_usable()
                if not self._broken:
                    self._visits.add(ref(visit))
                    self._ready = self._env
                    return self._env
            self._alone(lambda: None)  # that opens the files again

    def _leave(self, visit: Visit) -> None:
        """End a visit, and its turn to write; to end it twice is no error."""
        if self._turn is not None and self._turn() is visit:
            self._turn = None
        self._visits.discard(ref(visit))
        with self._guard:
            self._gate.notify_all()

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise StoreForkedError(f"{self.path} was opened before fork: open it again here")
        if self._closing:
            raise StoreClosedError(f"{self.path} is closed")

    def _break(self) -> None:
        """Have the files opened again before the next transaction, unless a close waits already."""
        with self._guard:
            self._broken, self._ready = not self._closing, None

    def _take_turn(self, visit: Visit) -> None:
        """Wait until no other thread of this process writes, behind those that wait already.

        LMDB would have them wait as well, but not until a commit that failed is settled, or the map
        has grown. Both wait for all transactions to end; and one that writes also reads before it
        ends, which must wait for both. Without the queue, a thread that writes all the time would
        let nobody else in, such as one that stores a snapshot in many small commits.

        Raises:
            StoreUsageError: this thread writes already.
        """
        mine = ref(visit)
        with self._guard:
            self._check_usable()
            try:
                self._queue.append(mine)
                patience = PATIENCE_POLLS
                while (taken := self._is_taken(visit)) or (patience and self._next() is not visit):
                    # One that was cut off may stand in the queue as long as a traceback lives.
                    patience -= not taken
                    self._gate.wait(POLL_SECONDS)
                    self._check_usable()
                self._turn = mine
            finally:
                if mine in self._queue:
                    self._queue.remove(mine)

    def _is_taken(self, visit: Visit) -> bool:
        """Tell whether another visit has the turn.

        Raises:
            StoreUsageError: it is of the same thread, which would wait for itself.
        """
        holder = None if self._turn is None else self._turn()
        if holder is not None and holder.thread == visit.thread:
            raise StoreUsageError("a transaction is open in this thread: end it first")
        return holder is not None

    def _next(self) -> Visit | None:
        """Return the visit that has waited longest for the turn."""
        while self._queue:
            visit = self._queue[0]()
            if visit is not None:
                return visit
            del self._queue[0]
        return None

    def _alone(self, work: Callable[[], None]) -> None:
        """Wait until no other thread has a transaction open, and let none begin during `work`.

        What this thread has open itself was cut off by an interrupt: nobody will go on with it.
        """
        with self._guard:
            self._growing, self._ready = True, None
            try:
                while self._others():
                    self._gate.wait(POLL_SECONDS)
                    self._ready = None  # another that grew it may have ended since
                self._check_usable()
                if self._broken:
                    self._connect_again()
                work()
            finally:
                self._growing = False
                self._gate.notify_all()

    def _others(self) -> bool:
        """Tell whether another thread has a transaction open."""
        me = threading.get_ident()
        for reference in tuple(self._visits):
            visit = reference()
            if visit is None:
                self._visits.discard(reference)
            elif visit.thread != me:
                return True
        return False
