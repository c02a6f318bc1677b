"""Find out what a place that images are taken from is, and who reads it.

This is the one list of all sources that a sync takes::

    docker://                the daemon behind /var/run/docker.sock
    docker:///PATH           the daemon behind another socket
    a folder                 Docker's data root, its `image/<driver>`, or its `imagedb`
    a folder                 a root of containers/storage, or its `<driver>-images`
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from eventstore.errors import SourceError
from eventstore.progress import Progress
from eventstore.sources.containers_storage import ContainersStorage
from eventstore.sources.docker_daemon import PREFIX, DockerDaemon
from eventstore.sources.docker_imagedb import DockerImageDB, NoImageDBError
from eventstore.sources.found import ConfigOf, Findings, unknown


class Source(Protocol):
    """A place that lists all images of a host."""

    @property
    def path(self) -> Path | str:
        """Return what it is called, for reports."""
        ...

    def read(
        self,
        *,
        operating_system: str | None = None,
        config_of: ConfigOf = unknown,
        progress: Progress | None = None,
    ) -> Findings:
        """Read all images and what is known of them.

        Args:
            operating_system: whose images with layers count, where that depends on the host.
            config_of: gives the config of an image that is known, for a source from which configs
                come dear.
            progress: is told of how many images are read.

        Raises:
            SourceError: it cannot be read, or not whole.
        """
        ...


def find(source: str) -> Source:
    """Return who reads a place.

    Args:
        source: an address or a path, as listed above.

    Raises:
        SourceError: it is no such place, it is more than one, or it may not be looked at.
        StoreUsageError: the package that reads it is not installed.
    """
    if source.startswith(PREFIX):
        return DockerDaemon.find(source)
    storage = ContainersStorage.find(source)
    try:
        database = DockerImageDB.find(source)
    except NoImageDBError as error:
        if storage is not None:
            return storage
        raise SourceError(
            source,
            "is not Docker's image database (no imagedb/content/sha256 in it or in its"
            " image/<driver>), nor a root of containers/storage (no images.json in it or in its"
            f" <driver>-images){error.link}",
        ) from error
    if storage is not None:
        raise SourceError(
            source, f"holds images of two kinds: name one of {database.path}, {storage.path}"
        )
    return database
