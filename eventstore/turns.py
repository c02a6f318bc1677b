"""Let those who write take turns: one leads, and serves with its own all requests that wait.

A commit costs a wait for the disk, however much is in it. So whoever has the lead takes what waits
in the queue along, each request judged by itself, and one commit serves all. A transaction leads
alone, and those that wait behind it are not served before it. Whoever is alone waits for nobody;
where the last commit was shared, the next waits a moment for the same to come back.

The lead and the queue hold their requests weakly, and all waits are polls. An interrupt may cut off
a thread at any point: what it has begun is then gone with its frames, or stays as a request that
anybody may serve; nobody waits for it. A request that was taken by a leader who was cut off leads
itself, and asks the log first whether it was served.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from weakref import ref

from eventstore.batch import Batch
from eventstore.events import Record
from eventstore.gate import POLL_SECONDS
from eventstore.layers import LayerMetadata

REQUESTS_MAX = 256
PATIENCE_SECONDS_MAX = 0.002
SIZE_MAX = 8 << 20  # bytes of configs that one commit takes, beyond what the leader has
Judge = Callable[[Batch, str], None]
"""Decides on a batch's view, adds what happens, for a reason, or raises and leaves no trace."""


class Request:
    """What one caller wants to write, and what came of it.

    Attributes:
        judge: what it wants; None for a transaction, which wants the lead for itself.
        reason: why.
        size: bytes of its config.
        served: it is on disk, or failed; what follows is true from then on.
        records: what it added, in the last group that took it along.
        released: what the layer store gave back.
        error: why it failed.
    """

    __slots__ = (
        "__weakref__",
        "error",
        "judge",
        "reason",
        "records",
        "released",
        "served",
        "size",
        "taken_in",
        "thread",
        "wake",
    )

    def __init__(self, judge: Judge | None, reason: str = "", size: int = 0) -> None:
        """Want nothing yet of anybody."""
        self.judge = judge
        self.reason = reason
        self.size = size
        self.thread = threading.get_ident()
        self.wake: threading.Lock | None = None
        self.taken_in: list[Record] | None = None  # what the whole group appends
        self.served = False
        self.records: list[Record] = []
        self.released: list[LayerMetadata] = []
        self.error: Exception | None = None


class Turns:
    """Who leads, and who waits, among the threads that write to one store."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._guard = threading.RLock()
        self._leader: ref[Request] | None = None
        self._queue: deque[ref[Request]] = deque()
        self._expected = 1  # how many may want to share the next commit, and how long to wait
        self._patience = 0.0

    def led(self) -> bool:
        """Tell whether anybody has the lead."""
        return self._leader is not None and self._leader() is not None

    def serve(self, request: Request, lead: Callable[[list[Request]], None]) -> bool:
        """Wait until a request has been served, by another thread or by `lead` here.

        Args:
            request: what is wanted.
            lead: serves all requests of a list, of which the first is this one.

        Returns:
            Whether `lead` was called.
        """
        leads = False
        try:
            leads = self._begin(request)
            while not leads and not request.served:
                leads = self._wait(request)
            if leads:
                self._gather(request)
                requests = self._take(request)
                began = time.monotonic()
                lead(requests)
                self._expected = len(requests)
                self._patience = min((time.monotonic() - began) / 4, PATIENCE_SECONDS_MAX)
        finally:
            if leads or not request.served:
                try:
                    self.leave(request)
                except BaseException:  # an interrupt came in between
                    self.leave(request)
                    raise
        return leads

    def lead(self, request: Request) -> None:
        """Wait until a request has the lead; whatever comes of this, `leave` must follow."""
        leads = self._begin(request)
        while not leads:
            leads = self._wait(request)

    def leave(self, request: Request) -> None:
        """End a request's wait, and its lead; the next may go. Twice is no error."""
        with self._guard:
            self._dequeue(request)
            leader = None if self._leader is None else self._leader()
            if leader is None or leader is request:
                self._leader = None
                following = self._first()
                if following is not None:
                    _wake(following)

    def finish(self, requests: list[Request]) -> None:
        """Tell requests that they are served; each has its outcome already."""
        with self._guard:
            for request in requests:
                request.served = True
                _wake(request)

    def _begin(self, request: Request) -> bool:
        """Take the lead if nobody has it or waits for it; else queue up."""
        with self._guard:
            if self._first() is None and self._try(request):
                return True
            request.wake = threading.Lock()
            request.wake.acquire()  # whoever wakes it releases this
            self._queue.append(ref(request))
            leader = None if self._leader is None else self._leader()
            if leader is not None and len(self._queue) + 1 >= self._expected:
                _wake(leader)  # it may wait for just that
            return False

    def _wait(self, request: Request) -> bool:
        """Wait for a while to be woken, and tell whether the request has the lead now."""
        if request.wake is not None:
            request.wake.acquire(timeout=POLL_SECONDS)
        return not request.served and self._try(request)

    def _try(self, request: Request) -> bool:
        """Take the lead if nobody has it; who has it in this thread was cut off by an interrupt."""
        with self._guard:
            leader = None if self._leader is None else self._leader()
            if request.served or (leader is not None and leader.thread != request.thread):
                return False
            self._dequeue(request)
            self._leader = ref(request)
            return True

    def _gather(self, leader: Request) -> None:
        """Let those come back whom the last commit has served, for a part of what it took.

        They are on their way, if they go on writing; the first that is there would else go alone,
        and all others wait for it. Who was served alone, waits for nobody.
        """
        if self._expected <= 1:
            return
        with self._guard:
            if len(self._queue) + 1 >= self._expected:
                return
            leader.wake = wake = threading.Lock()
            wake.acquire()
        wake.acquire(timeout=self._patience)

    def _take(self, leader: Request) -> list[Request]:
        """Take from the queue what one commit may serve, the leader's own request first."""
        taken, size = [leader], 0
        with self._guard:
            while len(taken) < REQUESTS_MAX:
                request = self._first()
                if request is None or request.judge is None:
                    break
                size += request.size
                if size > SIZE_MAX:
                    break
                self._queue.popleft()
                taken.append(request)
        return taken

    def _first(self) -> Request | None:
        """Return who waits at the head of the queue; what was cut off is left out."""
        while self._queue:
            request = self._queue[0]()
            if request is not None and not request.served:
                return request
            self._queue.popleft()
        return None

    def _dequeue(self, request: Request) -> None:
        reference = ref(request)
        if self._queue and reference in self._queue:
            self._queue.remove(reference)


def _wake(request: Request) -> None:
    """Let a request's thread go on; the guard is held, so nobody else does so at once."""
    if request.wake is not None and request.wake.locked():
        request.wake.release()
