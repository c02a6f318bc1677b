"""What Docker's cases are played on: the real store, and the model that knows the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from eventstore import ImageStore, LayerMetadata, LayerNotFoundError
from model import ModelStore

Store = ImageStore | ModelStore


class StoreSubject:
    """The real store over a directory of its own."""

    def __init__(self, path: Path, now: Callable[[], int]) -> None:
        """Open a new store."""
        self._path = path
        self._now = now
        self.store: Store = self._open()

    def _open(self) -> ImageStore:
        return ImageStore.open(self._path, actor="tester@host", now=self._now)

    def reopen(self) -> Store:
        """Close the store and open it again, so that all it knows comes from disk."""
        self._close()
        self.store = self._open()
        return self.store

    def finish(self) -> None:
        """Close the store; what it leaves on disk must verify."""
        self._close()
        with ImageStore.open(self._path, create=False) as again:
            assert list(again.verify()) == []

    def _close(self) -> None:
        if isinstance(self.store, ImageStore):
            self.store.close()


class ModelSubject:
    """The model, which has nothing to close."""

    def __init__(self, now: Callable[[], int]) -> None:
        """Start with an empty model."""
        self.store: Store = ModelStore(now)

    def reopen(self) -> Store:
        """Go on with a copy."""
        if isinstance(self.store, ModelStore):
            self.store = self.store.copy()
        return self.store

    def finish(self) -> None:
        """Do nothing."""


Subject = StoreSubject | ModelSubject


def live_then_reopened(subject: Subject) -> Iterator[Store]:
    """Yield the store as it is, then as it is when it has been opened again."""
    yield subject.store
    yield subject.reopen()


@dataclass(frozen=True)
class KnownLayer:
    """A reference to a stack of layers."""

    chain_id: str


class KnownLayers:
    """The layer store of the recordings: some chain ids are known, and stay so; references count.

    Releasing reports a chain id only when nobody holds it any more.
    """

    def __init__(self, known: Iterable[str]) -> None:
        """Know these chain ids; nobody holds any."""
        self._known = frozenset(known)
        self._held: Counter[str] = Counter()

    def get(self, chain_id: str) -> KnownLayer:
        """Return a new reference."""
        if chain_id not in self._known:
            raise LayerNotFoundError(chain_id)
        self._held[chain_id] += 1
        return KnownLayer(chain_id)

    def release(self, layer: KnownLayer) -> list[LayerMetadata]:
        """Give a reference back; report the stack if that was the last one."""
        if not self._held[layer.chain_id]:
            raise LayerNotFoundError(layer.chain_id)
        self._held[layer.chain_id] -= 1
        if self._held[layer.chain_id]:
            return []
        return [LayerMetadata(layer.chain_id, layer.chain_id, 0, 0)]

    def references(self) -> dict[str, int]:
        """Return how many references are held, by chain id; those that nobody holds left out."""
        return {chain_id: count for chain_id, count in self._held.items() if count}
