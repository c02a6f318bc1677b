"""Let a peer do the same work: `eventsourcing` from PyPI with its SQLite module.

It is used as its documentation shows: an aggregate for each image, whose first event carries the
digest and the config as text; many are saved at once. It neither parses nor checks the config. Its
SQLite module works in WAL mode with `synchronous=FULL`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

MISSING = (
    "the peer is left out: 'eventsourcing' is not installed (pip install 'image-eventstore[bench]')"
)

try:
    from eventsourcing.application import Application
    from eventsourcing.domain import Aggregate, event
except ModuleNotFoundError:
    is_installed = False
else:
    is_installed = True

    class PeerImage(Aggregate):
        """An image as an aggregate."""

        @event("Created")
        def __init__(self, digest: str, config: str) -> None:
            self.digest = digest
            self.config = config


class Peer:
    """An application of the peer's on a database of its own."""

    def __init__(self, path: Path) -> None:
        """Make the database."""
        self.application: Any = Application(
            env={
                "PERSISTENCE_MODULE": "eventsourcing.sqlite",
                "SQLITE_DBNAME": str(path),
                "CREATE_TABLE": "y",
            }
        )

    def create(self, images: Sequence[tuple[str, bytes]]) -> None:
        """Save images together: when this returns they are on disk."""
        self.application.save(
            *[PeerImage(digest=image_id, config=config.decode()) for image_id, config in images]
        )

    def close(self) -> None:
        """Close the database."""
        self.application.close()


def opened(path: Path) -> Peer | None:
    """Return the peer on a new database, None where it is not installed."""
    return Peer(path) if is_installed else None
