"""Say of a Docker database on disk what of it is followed, and read only what has changed.

Docker writes each file beside its place and renames it. `content` and `metadata` are followed with
all that is in them, `repositories.json` is looked at. `layerdb` is not followed: a layer is there
before its image is.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from eventstore import digest
from eventstore.sources.docker_imagedb import DockerImageDB
from eventstore.sources.docker_names import REPOSITORIES
from eventstore.sources.found import Findings
from eventstore.sources.remembered import Remembered


class WatchedImageDB:
    """The image database of one Docker daemon, followed in one place, whatever comes there."""

    def __init__(
        self, source: str | os.PathLike[str], *, operating_system: str | None = None
    ) -> None:
        """Find the database.

        Args:
            source: what `DockerImageDB.find` takes.
            operating_system: whose images with layers count; the host's if not given.

        Raises:
            SourceError: there is none, there are several, or they may not be looked at.
        """
        self._database = DockerImageDB.find(source)
        self._system = operating_system
        self._remembered = Remembered()

    @property
    def path(self) -> Path:
        """Return where the database is."""
        return self._database.path

    def read(self, told: Collection[str] | None = None) -> Findings:
        """Read all images; what has not changed since the last reading comes from that.

        Args:
            told: paths that may have changed since, or image ids; None if nobody knows.

        Raises:
            SourceError: it has gone, or may not be read.
        """
        return self._database.read(
            operating_system=self._system,
            remembered=self._remembered,
            told=None if told is None else self._names(told),
        )

    def _names(self, told: Collection[str]) -> set[str]:
        """Return the names of the entries that are told of."""
        tops = [str(folder) + os.sep for folder in self.folders()]
        names = {
            path[len(top) :].split(os.sep, 1)[0]
            for path in told
            for top in tops
            if path.startswith(top)
        }
        ids = {text.removeprefix(digest.PREFIX) for text in told if digest.parse(text)}
        return names | ids

    def forget(self) -> None:
        """Let the next reading read everything."""
        self._remembered = Remembered()

    def folders(self) -> Sequence[Path]:
        """Return the folders of configs and of metadata, as the paths of changes will begin."""
        path = self.path.absolute()  # what `..` means is left to the system, for there are links
        return [path / part / digest.ALGORITHM for part in ("content", "metadata")]

    def version(self) -> object:
        """Return what is another after an image or a name came or went."""
        return [stamp(path) for path in (*self.folders(), self.path.parent / REPOSITORIES)]


def stamp(path: Path) -> tuple[int, ...]:
    """Return device, inode, size and times of what is at a path; nothing if nothing is there."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
