"""Answer on a Unix socket as a Docker daemon does: what real daemons said, or what a bad one may.

It stands in for a part that is not ours. The answers about images are the recorded ones of
`data/docker`; an export is made of the config as a real daemon of either age lays it out.
"""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, Self

from docker_data import imagedb, said

Body = bytes | Callable[[], Iterator[bytes]]
LAYER_SIZE = 1 << 17
REDIRECTED, ELSEWHERE = 302, "/elsewhere"


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing when a reader goes away early, as ours does."""


class StandIn:
    """A daemon that answers what it is told to."""

    def __init__(self, path: Path) -> None:
        """Take the place of its socket; `with` makes it listen."""
        self.path = path
        self.answers: dict[str, tuple[int, Body]] = {}
        self.asked: list[str] = []
        self.sent = 0
        self.say("/info", {"DriverStatus": [["Backing Filesystem", "extfs"]]})
        self.images: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        """Return what `sync` takes it by."""
        return f"docker://{self.path}"

    def say(self, question: str, answer: Any, status: int = 200) -> None:
        """Answer a question: with these bytes, or with JSON."""
        raw = answer if isinstance(answer, bytes) or callable(answer) else json.dumps(answer)
        self.answers[question] = (status, raw.encode() if isinstance(raw, str) else raw)

    def have(
        self, image_id: str, export: Any, *, parent: str = "", time: str = "", **more: Any
    ) -> None:
        """Have an image."""
        self.images.append({"Id": image_id, "ParentId": parent, **more})
        self.say("/images/json?all=1", self.images)
        self.say(f"/images/{image_id}/json", {"Id": image_id, "Metadata": {"LastTagTime": time}})
        self.say(f"/images/{image_id}/get", export)

    def exports(self) -> list[str]:
        """Return which images were exported."""
        return [asked.split("/")[2] for asked in self.asked if asked.endswith("/get")]

    def __enter__(self) -> Self:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stand_in.asked.append(self.path)
                missing = (404, b'{"message": "no such image"}')
                status, body = stand_in.answers.get(self.path, missing)
                self.send_response(status)
                self.send_header("Transfer-Encoding", "chunked")
                if status == REDIRECTED:
                    self.send_header("Location", ELSEWHERE)
                self.end_headers()
                for part in [body] if isinstance(body, bytes) else body():
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if part else b"")
                    stand_in.sent += len(part)
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *args: object) -> None:
                """Keep quiet."""

            def address_string(self) -> str:
                return "a socket"

        self._server = _Server(str(self.path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def exported(
    image_id: str, config: bytes, *, old: bool = False, layer_size: int = LAYER_SIZE
) -> bytes:
    """Return an export as a daemon makes it; names are sorted, so layers stand on both sides."""
    digits = image_id[7:]
    blobs = "" if old else "blobs/sha256/"
    members = {
        f"{blobs}{'0' * 64}" + ("/layer.tar" if old else ""): bytes(layer_size),
        f"{blobs}{'f' * 64}" + ("/layer.tar" if old else ""): bytes(layer_size),
        f"{digits}.json" if old else f"blobs/sha256/{digits}": config,
        "manifest.json": b"[]",
    }
    return tar(members)


def tar(members: dict[str, bytes]) -> bytes:
    """Return a tar of some files in the order of their names."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in sorted(members):
            member = tarfile.TarInfo(name)
            member.size = len(members[name])
            archive.addfile(member, io.BytesIO(members[name]))
    return packed.getvalue()


def fill(stand_in: StandIn, name: str, root: Path) -> None:
    """Let it answer what the daemon of a recorded database said, exports in both forms."""
    stand_in.images = []
    for number, image in enumerate(said(name)["images"]):
        raw = (imagedb(root) / "content" / "sha256" / image["id"][7:]).read_bytes()
        stand_in.have(
            image["id"],
            exported(image["id"], raw, old=number % 2 == 0),
            parent=image["parent"] or "",
            time=image["last_tag_time"],
            RepoTags=image["repo_tags"] or ["<none>:<none>"],
            RepoDigests=image["repo_digests"] or ["<none>@<none>"],
        )
