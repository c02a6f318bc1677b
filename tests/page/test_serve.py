"""`serve` over a live store: what it shows, as it comes, and to whom it says no."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from eventstore import ImageStore
from making import config
from page_types import Shown
from store import children

SECONDS = 20


class Answer(NamedTuple):
    """What the server answered; the names of the headers in small letters."""

    status: int
    headers: dict[str, str]
    body: str


class Served:
    """A server that runs as a process of its own.

    Attributes:
        address: what it printed.
        process: the server.
    """

    def __init__(self, store: Path, *options: str) -> None:
        """Start it, and wait until it says its address."""
        command = [sys.executable, "-m", "eventstore", "-s", str(store), "serve", *options]
        environment = {**os.environ, "PYTHONPATH": children.PACKAGE}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, env=environment
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        self.port, self.path = urlsplit(self.address).port, urlsplit(self.address).path

    def ask(
        self, path: str | None = None, *, method: str = "GET", lines: int = 0, **headers: str
    ) -> Answer:
        """Send one request, and return what was answered: all of it, or the first lines."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port or 0, timeout=SECONDS)
        with closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, self.path if path is None else path, headers=named)
            with connection.getresponse() as answer:
                body = b"".join(answer.readline() for _ in range(lines)) or answer.read()
                return Answer(
                    answer.status,
                    {name.lower(): value for name, value in answer.getheaders()},
                    body.decode(),
                )

    def end(self) -> None:
        """End it, as it should end."""
        self.process.send_signal(signal.SIGTERM)
        _, complaint = self.process.communicate(timeout=SECONDS)
        assert (self.process.returncode, complaint) == (0, "")


def stand_ins(after: int, count: int) -> list[dict[str, object]]:
    """Return updates as the server sends them, of records that no store has."""
    shape = {"time": 0, "kind": 0, "of": None, "who": "a", "why": "", "batch": 0, "facts": None}
    return [
        {"position": after + number, "image": f"{number:064x}", **shape}
        for number in range(1, count + 1)
    ]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Make a store of two records."""
    with ImageStore.open(tmp_path / "store", actor="a") as store:
        store.tag("app:1", store.create(config("a")))
    return tmp_path / "store"


@pytest.fixture
def served(filled: Path) -> Iterator[Served]:
    """Serve it; the process must end well, and have complained of nothing."""
    server = Served(filled)
    yield server
    server.end()


def test_records_of_other_processes_show_up_as_they_come(
    filled: Path, served: Served, opened: Shown
) -> None:
    """Who looks at the newest moment goes on with it; who looks at the past stays there."""
    page = opened(served.address)
    assert page.inner_text("#now").startswith("@2,")
    with ImageStore.open(filled, actor="b", create=False) as store:
        other = store.create(config("b"), reason="new here")
        store.set_parent(other, next(iter(store.heads())))
        store.tag("app:2", other)
        last = store.position
    page.wait_for_function(
        "at => document.getElementById('now').textContent.startsWith('@' + at + ',')", arg=last
    )
    assert "new here" in page.inner_text("#log")
    assert page.locator(f"[data-id='{other[7:]}']").count() == 1
    page.click("#first")
    page.wait_for_function("() => page.position === 0")
    with ImageStore.open(filled, actor="b", create=False) as store:
        store.delete(other)
        last = store.position
    page.wait_for_function("at => page.history.last === at", arg=last)
    assert page.inner_text("#now").startswith("@0,")
    assert page.inner_text("#live") == f"Live: @{last}"


def test_a_page_that_was_cut_off_while_the_log_was_compacted_is_made_anew(
    filled: Path, served: Served, opened: Shown
) -> None:
    """What it missed was dropped: it must not stay where it was and call that the present."""
    page = opened("about:blank", is_cut_off=True)
    page.add_init_script(
        "window.EventSource = class extends EventSource {"
        "constructor(address) { super(address); window.stream = this; } };"
    )
    page.goto(served.address)
    page.wait_for_function("() => document.getElementById('connection').textContent === 'Live'")
    page.context.set_offline(True)
    page.evaluate("stream.dispatchEvent(new Event('error'))")
    assert page.inner_text("#connection") == "Not connected; trying again"
    with ImageStore.open(filled, actor="b", create=False) as store:
        for number in range(9):
            store.delete(store.create(config(str(number))))
        store.compact(position=store.position, reason="a test")
        last, since = store.position, store.horizon.through
    page.context.set_offline(False)
    page.wait_for_function("at => page.history.since === at", arg=since)
    page.wait_for_function("at => page.history.last === at", arg=last)
    assert page.inner_text("#now").startswith(f"@{last},")
    assert page.inner_text("#live") == f"Live: @{last}"


def test_a_page_that_another_server_follows_says_so(filled: Path, opened: Shown) -> None:
    """A secret is of one server: the page cannot go on, and says what can be done."""
    first = Served(filled)
    page = opened(first.address, is_cut_off=True)
    first.end()
    said = "text => document.getElementById('connection').textContent.startsWith(text)"
    page.wait_for_function(said, arg="Not connected")
    second = Served(filled, "--port", str(first.port))
    page.wait_for_function(said, arg="Not live: open the address")
    second.end()


HIDE = """isHidden => {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_pages_that_nobody_looks_at_keep_no_connection(
    filled: Path, served: Served, opened: Shown
) -> None:
    """A browser has six for a server; and a page that is looked at again has all that came."""
    first = opened(served.address)
    pages = [first]
    live = "() => document.getElementById('connection').textContent === 'Live'"
    for _ in range(8):
        pages[-1].wait_for_function(live)
        pages[-1].evaluate(HIDE, True)
        pages.append(first.context.new_page())
        pages[-1].goto(served.address)
    assert first.inner_text("#connection") == "Paused"
    with ImageStore.open(filled, actor="b", create=False) as store:
        store.create(config("b"))
        last = store.position
    pages[-1].wait_for_function("at => page.history.last === at", arg=last)
    assert first.evaluate("page.history.last") == last - 1
    first.evaluate(HIDE, False)
    first.wait_for_function("at => page.history.last === at", arg=last)
    assert first.inner_text("#connection") == "Live"


def test_thousands_of_records_at_once_show_up_in_few_frames(
    filled: Path, served: Served, opened: Shown
) -> None:
    """The page draws when the browser does, not for each part of the stream."""
    page = opened(served.address)
    page.evaluate(
        "() => { page.drawn = 0; const grown = page.grown.bind(page);"
        "page.grown = () => { page.drawn += 1; grown(); }; }"
    )
    page.evaluate("updates => updates.forEach((one) => page.take([one]))", stand_ins(2, 1000))
    assert page.evaluate("page.history.last") == 1002
    page.wait_for_function("() => page.asked === undefined")
    assert page.evaluate("page.drawn") == 1
    assert page.inner_text("#reached") == "@1002"


def test_the_stream_says_what_the_page_would(filled: Path, served: Served) -> None:
    """It begins behind any position, and goes on where it was cut off."""
    cases: list[tuple[int, dict[str, str]]] = [(0, {}), (1, {}), (0, {"Last_Event_ID": "1"})]
    for after, headers in cases:
        answer = served.ask(f"{served.path}updates?after={after}", lines=2, **headers)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = answer.body.splitlines()
        rows = json.loads(lines[1].removeprefix("data: "))
        start = 1 if headers else after
        assert [row["position"] for row in rows] == [*range(start + 1, 3)]
        assert lines[0] == "id: 2"
    for wrong in ("", "?after=", "?after=-1", "?after=x", "?after=" + "9" * 40, "?after=²"):
        path = f"{served.path}updates{wrong}".encode().decode("latin-1")
        assert served.ask(path.replace("Â²", "%C2%B2")).status == 400


def test_others_of_this_host_and_pages_of_strangers_get_nothing(served: Served) -> None:
    """Without the secret, under another name of this host, or from another origin."""
    assert served.ask().status == 200
    for path in ("/", "/updates?after=0", "/x" + served.path[2:], served.path + "x", "/../"):
        assert served.ask(path).status == 404
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]"):
        assert served.ask(Host=host).status == 400
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"):
        assert served.ask(Origin=origin).status == 403
        assert served.ask(f"{served.path}updates?after=0", Origin=origin).status == 403
    for site in ("cross-site", "same-site"):
        assert served.ask(Sec_Fetch_Site=site, Sec_Fetch_Mode="cors").status == 403
    assert served.ask(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200
    own = f"http://127.0.0.1:{served.port}"
    assert served.ask(Origin=own, Sec_Fetch_Site="same-origin").status == 200


def test_nothing_can_be_written(filled: Path, served: Served) -> None:
    """There is no request that changes anything."""
    before = (filled / "data.mdb").read_bytes()
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert served.ask(method=method).status == 405
    assert (filled / "data.mdb").read_bytes() == before


def test_every_answer_says_what_it_may_be_used_for(served: Served) -> None:
    """No frame of a stranger, no cache, no guess of its kind; the policy allows the page alone."""
    for answer in (served.ask(), served.ask("/"), served.ask(Origin="null")):
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers
    policy = served.ask().headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_it_listens_on_this_host_alone(served: Served) -> None:
    """No other host could connect, whatever it sends."""
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    port = f":{served.port or 0:04X}"
    places = {line.split()[1] for line in listening if line.split()[1].endswith(port)}
    assert places == {f"0100007F{port}"}


def test_a_port_that_is_taken_and_a_store_that_is_missing_are_told(
    filled: Path, served: Served, tmp_path: Path
) -> None:
    """In one line, with the code for what cannot be used."""
    command = [sys.executable, "-m", "eventstore", "serve", "-s"]
    environment = {**os.environ, "PYTHONPATH": children.PACKAGE}
    for arguments in ([str(filled), "--port", str(served.port)], [str(tmp_path / "none")]):
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=environment, check=False
        )
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("eventstore: ")


def test_it_ends_with_its_store(filled: Path) -> None:
    """What was removed or moved must not be shown as if it were the present."""
    server = Served(filled)
    assert server.ask().status == 200
    filled.rename(filled.with_name("moved"))
    _, complaint = server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 3
    assert complaint.startswith("eventstore: ")
    assert "moved" in complaint
    assert complaint.count("\n") == 1


def test_it_ends_with_streams_open(filled: Path) -> None:
    """An interrupt is no error, and nobody who listens keeps it."""
    server = Served(filled)
    listener = socket.create_connection(("127.0.0.1", server.port))
    listener.sendall(
        f"GET {server.path}updates?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    )
    assert listener.recv(15) == b"HTTP/1.1 200 OK"
    server.process.send_signal(signal.SIGINT)
    _, complaint = server.process.communicate(timeout=SECONDS)
    assert (server.process.returncode, complaint) == (0, "")
    listener.close()


def test_a_page_can_go_into_a_pipe(filled: Path) -> None:
    """It alone, so that a service can hand it on."""
    environment = {**os.environ, "PYTHONPATH": children.PACKAGE}
    command = [sys.executable, "-m", "eventstore", "-s", str(filled), "report", "-"]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=filled, check=True)
    assert done.stdout.startswith(b"<!DOCTYPE html>")
    assert done.stdout.rstrip().endswith(b"</html>")
    assert not (filled / "-").exists()
