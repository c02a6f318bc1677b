"""Stand between images and the layers that they are made of.

A layer store is anything with two methods: `get` takes a reference to the stack of layers with a
chain id, `release` gives one back. `MemoryLayerStore` counts as Docker's does; `DockerLayerDB`
reads the `layerdb` that a Docker daemon left on disk, and never writes there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from eventstore import digest
from eventstore.errors import LayerNotFoundError, SourceError
from eventstore.image import RootFS
from eventstore.regular_file import Folder, IrregularFileError

_FILE_SIZE_MAX = 4096
_DEPTH_MAX = 4096
_LAYER_SIZE_MAX = 2**63 - 1  # Docker parses it as an int64
NotedLayer = tuple[str, int, str | None]
"""Diff id, size and chain id of the parent, as Docker noted them of one layer."""


class Layer(Protocol):
    """A reference to a stack of layers."""

    @property
    def chain_id(self) -> str:
        """Return the chain id of the stack."""
        ...


class LayerMetadata(Struct, frozen=True):
    """What a layer store says of a layer.

    Attributes:
        chain_id: id of the stack that ends with this layer.
        diff_id: digest of the layer's own unpacked content.
        size: bytes of the whole stack.
        diff_size: bytes of this layer alone.
    """

    chain_id: str
    diff_id: str
    size: int
    diff_size: int


class LayerStore(Protocol):
    """Where layers are; what `ImageStore.open` takes as `layers`."""

    def get(self, chain_id: str) -> Layer:
        """Return a new reference to a stack of layers.

        Raises:
            LayerNotFoundError: there is no such stack.
        """
        ...

    def release(self, layer: Layer) -> list[LayerMetadata]:
        """Give a reference back; return the layers that this removed."""
        ...


class HeldLayer(Struct, frozen=True):
    """A reference to a stack of layers."""

    chain_id: str


class _Entry:
    def __init__(self, metadata: LayerMetadata, parent: str | None) -> None:
        self.metadata = metadata
        self.parent = parent
        self.references = 0
        self.children = 0


class MemoryLayerStore:
    """A layer store in memory that counts references as Docker's does; safe among threads.

    A layer is held by the references to it and by the layers on top of it. Releasing the last
    reference removes it, then the layers below it that nothing holds any more, and reports each.
    """

    def __init__(self) -> None:
        """Start without layers."""
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def add(self, diff_ids: Iterable[str], *, diff_size: int = 0) -> str:
        """Add a stack of layers, unless it is there, and return its chain id.

        Args:
            diff_ids: digests of the layers, bottom first; at least one.
            diff_size: bytes of each layer that is new.
        """
        parent: str | None = None
        known: tuple[str, ...] = ()
        with self._lock:
            for diff_id in diff_ids:
                known = (*known, diff_id)
                chain_id = RootFS("layers", known).chain_id()
                if chain_id not in self._entries:
                    below = 0 if parent is None else self._entries[parent].metadata.size
                    metadata = LayerMetadata(chain_id, diff_id, below + diff_size, diff_size)
                    self._entries[chain_id] = _Entry(metadata, parent)
                    if parent is not None:
                        self._entries[parent].children += 1
                parent = chain_id
        if parent is None:
            raise ValueError("a stack has at least one layer")
        return parent

    def get(self, chain_id: str) -> HeldLayer:
        """Return a new reference to a stack of layers.

        Raises:
            LayerNotFoundError: there is no such stack.
        """
        with self._lock:
            entry = self._entries.get(chain_id)
            if entry is None:
                raise LayerNotFoundError(chain_id)
            entry.references += 1
        return HeldLayer(chain_id)

    def release(self, layer: Layer) -> list[LayerMetadata]:
        """Give a reference back; return the layers that this removed, top first.

        Raises:
            LayerNotFoundError: nothing holds such a reference.
        """
        with self._lock:
            entry = self._entries.get(layer.chain_id)
            if entry is None or not entry.references:
                raise LayerNotFoundError(layer.chain_id)
            entry.references -= 1
            removed: list[LayerMetadata] = []
            while entry is not None and not entry.references and not entry.children:
                removed.append(entry.metadata)
                del self._entries[entry.metadata.chain_id]
                entry = None if entry.parent is None else self._entries[entry.parent]
                if entry is not None:
                    entry.children -= 1
            return removed

    def references(self) -> dict[str, int]:
        """Return how many references are held, by chain id; those that nobody holds left out."""
        with self._lock:
            return {
                chain_id: entry.references
                for chain_id, entry in self._entries.items()
                if entry.references
            }

    def __contains__(self, chain_id: str) -> bool:
        """Tell whether a stack of layers is there."""
        return chain_id in self._entries


class Chains:
    """What is known of stacks of layers, each of which stands on the layers below it.

    Each layer is read once, whichever stacks it is in.
    """

    def __init__(self, read: Callable[[str], NotedLayer | None]) -> None:
        """Know nothing yet.

        Args:
            read: gives what is noted of the layer of a chain id, None if Docker would not load it.
        """
        self._read = read
        self._known: dict[str, LayerMetadata | None] = {}

    def read_with(self, read: Callable[[str], NotedLayer | None]) -> None:
        """Go on with another way to read, and look again for what was not there."""
        self._read = read
        self._known = {name: known for name, known in self._known.items() if known is not None}

    def metadata(self, chain_id: str) -> LayerMetadata:
        """Return what is noted of a layer.

        Raises:
            LayerNotFoundError: it is not there, or Docker would not load it.
            SourceError: it cannot be told, for a link or for want of rights.
        """
        pending: list[tuple[str, str, int]] = []
        at: str | None = chain_id
        while at is not None and at not in self._known and len(pending) < _DEPTH_MAX:
            found = self._read(at)
            if found is None:
                self._known[at] = None
                break
            diff_id, diff_size, parent = found
            pending.append((at, diff_id, diff_size))
            at = parent
        below = self._known.get(at) if at is not None else None
        broken = at is not None and below is None
        size = 0 if below is None else below.size
        for name, diff_id, diff_size in reversed(pending):
            size += diff_size
            self._known[name] = None if broken else LayerMetadata(name, diff_id, size, diff_size)
        result = self._known.get(chain_id)
        if result is None:
            raise LayerNotFoundError(chain_id)
        return result


class DockerLayerDB:
    """The layers of a Docker daemon, read from its `layerdb` folder; releasing does nothing.

    A layer counts if Docker would load it: its `diff` is a digest, its `size` a number, its
    `cache-id` is there, and so are all layers below it. Links below the folder are not followed;
    since Docker would follow them, one in the place of a layer is an error, not a missing layer.
    """

    def __init__(self, path: str | os.PathLike[str], *below: str) -> None:
        """Read from the folder `image/<driver>/layerdb`.

        Args:
            path: the folder, or one above it; it may be a link.
            below: names of the folders that lead from there to it, none of them a link.
        """
        self._folder = Path(path)
        self._below = (*below, digest.ALGORITHM)
        self._chains = Chains(self._read)

    def get(self, chain_id: str) -> HeldLayer:
        """Return a reference to a stack of layers.

        Raises:
            LayerNotFoundError: it is not there, or Docker would not load it.
            SourceError: it cannot be told, for a link or for want of rights.
        """
        self.metadata(chain_id)
        return HeldLayer(chain_id)

    def release(self, layer: Layer) -> list[LayerMetadata]:
        """Do nothing: the layers are Docker's."""
        return []

    def metadata(self, chain_id: str) -> LayerMetadata:
        """Return what the daemon noted of a layer.

        Raises:
            LayerNotFoundError: it is not there, or Docker would not load it.
            SourceError: it cannot be told, for a link or for want of rights.
        """
        return self._chains.metadata(chain_id)

    def _read(self, chain_id: str) -> NotedLayer | None:
        if digest.parse(chain_id) is None:
            return None
        try:
            found = Folder.open(self._folder, *self._below)
        except IrregularFileError as error:
            _must_be_sure(self._folder.joinpath(*self._below), error)
            return None
        if found is None:
            return None
        with found as folder:
            return noted_layer(folder, chain_id)


def noted_layer(layers: Folder, chain_id: str) -> NotedLayer | None:
    """Return diff id, size and parent of one layer, None if Docker would not load it.

    Args:
        layers: the folder `layerdb/sha256`.
        chain_id: of the layer.

    Raises:
        SourceError: it cannot be told, for a link or for want of rights.
    """
    if digest.parse(chain_id) is None:
        return None
    name = chain_id.removeprefix(digest.PREFIX)
    try:
        found = layers.below(name)
    except IrregularFileError as error:
        _must_be_sure(layers.path / name, error)
        return None
    if found is None:
        return None
    try:
        return _noted_layer(found)
    finally:
        found.close()


def _noted_layer(folder: Folder) -> NotedLayer | None:
    """Return diff id, size and parent as a layer's folder has them, None if they are none."""
    diff_id = _noted(folder, "diff")
    size = _noted(folder, "size")
    parent = _noted(folder, "parent")
    if diff_id is None or size is None or _noted(folder, "cache-id") is None:
        return None
    if digest.parse(diff_id) is None or not size.isascii() or not size.isdigit():
        return None
    if int(size) > _LAYER_SIZE_MAX:
        return None
    if parent is None and folder.has("parent"):
        return None
    if parent is not None and digest.parse(parent) is None:
        return None
    return diff_id, int(size), parent


def _noted(folder: Folder, name: str) -> str | None:
    """Return what a small file says, white space around it cut; None if there is none."""
    try:
        content = folder.read(name, _FILE_SIZE_MAX)
    except IrregularFileError as error:
        _must_be_sure(folder.path / name, error)
        return None
    return None if content is None else content.decode("utf-8", "replace").strip()


def _must_be_sure(path: Path, error: IrregularFileError) -> None:
    """Let what Docker could not read either be missing, and nothing else.

    Raises:
        SourceError: Docker may be able to read it.
    """
    if error.unsure:
        raise SourceError(str(path), error.detail) from error
