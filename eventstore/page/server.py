"""Serve the page over a live store, for one user of this host, read only.

Whoever may not read the store may not read the page: it is only under a path that holds a secret,
which is made anew each time, and a request that names another host, or that comes from a page of
another origin, is refused. So neither other users of this host nor a page of a stranger in the same
browser, also one whose name has come to mean this host, gets anything. Nothing can be written: no
request changes the store. A page learns of new records within a second, by a stream of events that
goes on where it was cut off.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from eventstore.errors import EventStoreError
from eventstore.page.document import document, policy
from eventstore.page.history import PageHistory, gather
from eventstore.story import StoryReader

HOSTS = ("127.0.0.1", "localhost", "[::1]")
LOOK_SECONDS = 0.25
STILL_LOOKS = 60  # after so many without a record, the stream shows that it is there
UPDATES_MAX = 500
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
Answer = Callable[[Request], Awaitable[Response]]


class PageServer:
    """What is served of one open store.

    Attributes:
        secret: the part of the path that only its user knows.
        application: an ASGI application.
    """

    def __init__(self, store: StoryReader, *, title: str) -> None:
        """Serve a store.

        Args:
            store: open for as long as the application is used.
            title: what the page is called.
        """
        self._store = store
        self._title = title
        self._lock = threading.Lock()
        self._page: tuple[tuple[int, int], bytes] | None = None
        self.stop = threading.Event()
        self.secret = secrets.token_urlsafe(16)
        self.application = Starlette(
            routes=[
                Route(f"/{self.secret}/", self._index),
                Route(f"/{self.secret}/updates", self._updates),
            ],
            middleware=[
                Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS)),
                Middleware(BaseHTTPMiddleware, dispatch=_guard),
            ],
            exception_handlers={EventStoreError: _refuse},
        )

    def refuse_lost(self) -> None:
        """Refuse to go on showing what has no name any more, as if it were the store.

        Raises:
            StoreLostError: its files were removed, moved or replaced.
        """
        self._store._environment.refuse_lost()

    async def _index(self, request: Request) -> Response:
        page = await run_in_threadpool(self._made)
        return Response(
            page,
            media_type="text/html; charset=utf-8",
            headers={"Content-Security-Policy": f"{policy(live=True)}; frame-ancestors 'none'"},
        )

    def _made(self) -> bytes:
        """Return the page of the newest position; it is made once, whoever asks."""
        with self._lock:
            now = (self._store.position, self._store.horizon.through)
            if self._page is None or self._page[0] != now:
                gathered = gather(self._store, title=self._title, live=True)
                self._page = (now, document(gathered))
            return self._page[1]

    async def _updates(self, request: Request) -> Response:
        """Answer with a stream of events: each a list of records, of which there are not many."""
        text = request.headers.get("last-event-id") or request.query_params.get("after", "")
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            return PlainTextResponse("after which position?\n", status_code=400)
        return StreamingResponse(
            self._events(int(text)), media_type="text/event-stream; charset=utf-8"
        )

    async def _events(self, after: int) -> AsyncGenerator[bytes]:
        """Yield the records behind a position, and then those that come."""
        history = await run_in_threadpool(PageHistory, self._store)
        still = 0
        while not self.stop.is_set():
            rows = await run_in_threadpool(history.updates, after, UPDATES_MAX)
            if rows:
                after, still = rows[-1]["position"], 0
                yield b"id: %d\ndata: %b\n\n" % (after, msgspec.json.encode(rows))
                continue
            still += 1
            if still % STILL_LOOKS == 1:
                yield b": nothing new\n\n"
            await asyncio.sleep(LOOK_SECONDS)


async def _guard(request: Request, answer: Answer) -> Response:
    """Refuse what pages of other origins ask for; say in every answer what it may be used for."""
    origin = request.headers.get("origin")
    fetched_from = request.headers.get("sec-fetch-site", "same-origin")
    # A link from elsewhere may lead here, as an address that was typed in does.
    is_visit = request.headers.get("sec-fetch-mode") == "navigate"
    if (origin is not None and origin != f"{request.url.scheme}://{request.url.netloc}") or (
        fetched_from not in ("same-origin", "none") and not is_visit
    ):
        response: Response = PlainTextResponse("not for other origins\n", status_code=403)
    else:
        response = await answer(request)
    response.headers.update(_HEADERS)
    return response


async def _refuse(request: Request, error: Exception) -> Response:
    """Say in a line what the store says against it."""
    return PlainTextResponse(f"{error}\n", status_code=503)
