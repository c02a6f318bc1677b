"""Hold the layers of the images that are there, and let go of those that are gone.

Opening over a layer store takes a reference for every image with layers; images whose layers are
missing, or which are for another operating system, are hidden from the view with a warning, as in
the restore of Docker's store, though the log still knows them. A reference that a transaction took
is given back when it fails; one that it gives up is released only after the commit, for that cannot
be undone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from eventstore import digest, host
from eventstore.errors import LayerMissingError, LayerNotFoundError, UnsupportedOSError
from eventstore.events import Created, Deleted, Record
from eventstore.layers import Layer, LayerMetadata, LayerStore
from eventstore.notices import Notices
from eventstore.view import ImageView

logger = Notices(__name__)


class Retained:
    """The references to layers that one open store holds."""

    def __init__(
        self,
        layers: LayerStore | None,
        operating_system: str,
        created_event: Callable[[int], Created],
    ) -> None:
        """Hold nothing yet.

        Args:
            layers: where layers are, None to do nothing at all.
            operating_system: whose images with layers are accepted.
            created_event: gives the `Created` at a position.
        """
        self.active = layers is not None  # without a layer store none of this does anything
        self._layers = layers
        self._operating_system = operating_system
        self._created_event = created_event
        self._held: dict[bytes, Layer] = {}
        self._taken: defaultdict[bytes, list[Layer]] = defaultdict(list)

    def restore(self, view: ImageView) -> None:
        """Take a reference for every image of a view; hide those that cannot have one."""
        if self._layers is not None:
            for image in sorted(view.digests()):
                self._retain(view, image)

    def _retain(self, view: ImageView, image: bytes) -> None:
        state = view.state(image)
        if state is None:
            return
        event = self._created_event(state.created)
        try:
            self._held.update((image, layer) for layer in self._get(event.chain_id, event.os))
        except (UnsupportedOSError, LayerMissingError) as error:
            view.hide(image)
            logger.warning("leaving out %s: %s", digest.to_text(image), error)

    def _get(self, chain_id: str | None, os: str) -> list[Layer]:
        if self._layers is None or not chain_id:
            return []
        if not host.runs(os, self._operating_system):
            raise UnsupportedOSError(
                f"its operating system is {os!r}, this store's is {self._operating_system!r}"
            )
        try:
            return [self._layers.get(chain_id)]
        except LayerNotFoundError as error:
            raise LayerMissingError(f"failed to get layer {chain_id}: {error}") from error

    def take(self, image: bytes, chain_id: str | None, os: str) -> None:
        """Take the reference for an image that is about to be created.

        Raises:
            UnsupportedOSError: it has layers and is for another operating system.
            LayerMissingError: its layers are not in the layer store.
        """
        if self._layers is not None:
            self._taken[image].extend(self._get(chain_id, os))

    def give_back(self, image: bytes) -> None:
        """Give back what was last taken for an image that is not created after all."""
        if self._taken.get(image):
            self._release(self._taken[image].pop())

    def bring_back(self, view: ImageView, image: bytes, chain_id: str | None, os: str) -> None:
        """Take the reference for a hidden image and show it again.

        Raises:
            UnsupportedOSError: it is for another operating system.
            LayerMissingError: its layers are still not there.
        """
        self._held.update((image, layer) for layer in self._get(chain_id, os))
        view.reveal(image)

    def roll_back(self) -> None:
        """Give back what a transaction took and did not commit."""
        taken, self._taken = self._taken, defaultdict(list)
        for layers in taken.values():
            for layer in layers:
                self._release(layer)

    def settle(self, record: Record) -> list[LayerMetadata]:
        """Keep what a committed record took, or release what it deleted; return that."""
        image = record.event.digest
        if isinstance(record.event, Created) and self._taken.get(image):
            self._held[image] = self._taken[image].pop(0)
        elif isinstance(record.event, Deleted) and image in self._held:
            return self._release(self._held.pop(image))
        return []

    def follow(self, view: ImageView, record: Record) -> None:
        """Take or release what a record of another process asks for."""
        if self._layers is None:
            return
        image = record.event.digest
        if isinstance(record.event, Created):
            self._retain(view, image)
        elif isinstance(record.event, Deleted) and image in self._held:
            self._release(self._held.pop(image))

    def _release(self, layer: Layer) -> list[LayerMetadata]:
        return [] if self._layers is None else self._layers.release(layer)
