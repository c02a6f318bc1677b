"""Keep what a reading of a Docker database found, so that the next one reads only what changed.

Docker replaces files, it never writes into one that is there; so an entry whose inode, size and
times are those of the last reading has the same content. What was changed so shortly before it was
read that a further change could leave the same times is read again, as git does with its index.
Whether it is there is looked at each time, for every entry: nothing depends on being told of each
change. What was refused is never kept.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from functools import partial

from eventstore import digest
from eventstore.events import Created
from eventstore.layers import Chains, NotedLayer, noted_layer
from eventstore.regular_file import Folder, Stamp
from eventstore.sources.found import PassedOver, SourceImage

SETTLED_NS, SETTLED_COARSE_NS = 50_000_000, 2_500_000_000
_SECOND_NS = 1_000_000_000


class Remembered:
    """What was found of each entry, and by what it is known again."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._configs: dict[str, tuple[Stamp, bytes, Created]] = {}
        self._images: dict[str, tuple[Stamp, tuple[tuple[str, Stamp], ...], SourceImage]] = {}
        self._layers: dict[str, tuple[Stamp, NotedLayer]] = {}
        self._chains: tuple[Stamp | None, Chains] | None = None
        self._names: tuple[Stamp, dict[str, str]] | None = None
        self._read_anew = 0
        self._listed: tuple[Stamp | None, Stamp | None] = (None, None)
        self._contents: frozenset[str] = frozenset()
        self._noted: frozenset[str] = frozenset()
        self.images: dict[str, SourceImage] = {}
        self.passed_over: list[PassedOver] = []

    def changed(
        self, content: Folder, metadata: Folder | None, told: Collection[str]
    ) -> set[str] | None:
        """Return the names of entries to look at: those told of, and what came or went.

        None if all have to be looked at, for nothing is known yet.
        """
        listed = self._listed
        stamps = content.stamp("."), None if metadata is None else metadata.stamp(".")
        if listed[0] is None or (listed[1] is None) != (metadata is None):
            self.list_all(content, metadata)
            return None
        found = set(told)
        if stamps[0] != listed[0] or not _is_settled(listed[0]):
            contents = frozenset(content.names())
            found |= contents ^ self._contents
            self._contents = contents
        before = listed[1]
        if metadata is not None and (stamps[1] != before or not before or not _is_settled(before)):
            noted = frozenset(metadata.names())
            found |= noted ^ self._noted
            self._noted = noted
        self._listed = stamps
        return found

    def list_all(self, content: Folder, metadata: Folder | None) -> None:
        """Note what there is now."""
        self._listed = content.stamp("."), None if metadata is None else metadata.stamp(".")
        self._contents = frozenset(content.names())
        self._noted = frozenset(() if metadata is None else metadata.names())

    def begin(self, contents: Collection[str]) -> None:
        """Begin a reading: forget what is gone.

        Args:
            contents: names of all configs that there are.
        """
        self._read_anew = 0
        for kept in (self._configs, self._images):
            for name in kept.keys() - contents:
                del kept[name]

    @property
    def read_anew(self) -> int:
        """Return how many configs the last reading had to read."""
        return self._read_anew

    def config(self, content: Folder, name: str) -> tuple[Stamp | None, bytes, Created | None]:
        """Return what identifies a config now, and the config if it is known."""
        stamp = content.stamp(name)
        known = self._configs.get(name)
        if known is not None and known[0] == stamp:
            return stamp, known[1], known[2]
        self._read_anew += 1
        return stamp, b"", None

    def keep_config(
        self, name: str, stamp: Stamp | None, config: bytes, created: Created | None
    ) -> None:
        """Keep a config that was read after its stamp was taken."""
        if stamp is not None and created is not None and _is_settled(stamp):
            self._configs[name] = stamp, config, created

    def image(self, metadata: Folder, name: str, config: bytes) -> SourceImage | None:
        """Return an image with its metadata if neither has changed."""
        known = self._images.get(name)
        if known is None or known[2].config is not config:
            return None
        folder, files, image = known
        if metadata.stamp(name) != folder:
            return None
        if any(metadata.stamp(f"{name}/{file}") != stamp for file, stamp in files):
            return None
        return image

    def stamps(self, metadata: Folder, name: str, files: Collection[str]) -> list[Stamp | None]:
        """Return what identifies the metadata of an image, before it is read."""
        return [metadata.stamp(name), *(metadata.stamp(f"{name}/{file}") for file in files)]

    def keep_image(
        self, name: str, files: Collection[str], stamps: list[Stamp | None], image: SourceImage
    ) -> None:
        """Keep an image whose metadata was read after the stamps were taken."""
        settled = [stamp for stamp in stamps if stamp is not None and _is_settled(stamp)]
        if len(settled) == len(files) + 1:
            self._images[name] = (
                settled[0],
                tuple(zip(files, settled[1:], strict=True)),
                image,
            )

    def chains(self, layers: Folder) -> Chains:
        """Return what is known of layers; all of it still holds if no folder came or went."""
        stamp = layers.stamp(".")
        if self._chains is not None and self._chains[0] == stamp:
            chains = self._chains[1]
            chains.read_with(partial(self._noted_layer, layers))
            return chains
        chains = Chains(partial(self._noted_layer, layers))
        settled = stamp is not None and _is_settled(stamp)
        self._chains = (stamp, chains) if settled else None
        return chains

    def _noted_layer(self, layers: Folder, chain_id: str) -> NotedLayer | None:
        if digest.parse(chain_id) is None:
            return None
        name = chain_id.removeprefix(digest.PREFIX)
        stamp, known = self._layer(layers, name)
        if known is None:
            known = noted_layer(layers, chain_id)
            self._keep_layer(name, stamp, known)
        return known

    def _layer(self, layers: Folder, name: str) -> tuple[Stamp | None, NotedLayer | None]:
        """Return what identifies a layer's folder now, and what is noted in it if that is known."""
        stamp = layers.stamp(name)
        known = self._layers.get(name)
        return stamp, known[1] if known is not None and known[0] == stamp else None

    def _keep_layer(self, name: str, stamp: Stamp | None, noted: NotedLayer | None) -> None:
        """Keep what is noted of a layer; Docker renames the whole folder into its place."""
        if noted is not None and stamp is not None and _is_settled(stamp):
            self._layers[name] = stamp, noted
        else:
            self._layers.pop(name, None)

    def names(self, stamp: Stamp | None) -> dict[str, str] | None:
        """Return the names of images if their file is as it was."""
        if self._names is None or stamp is None or self._names[0] != stamp:
            return None
        return self._names[1]

    def keep_names(self, stamp: Stamp | None, names: dict[str, str] | None) -> None:
        """Keep names that were read, with nothing passed over, after the stamp was taken."""
        kept = names is not None and stamp is not None and _is_settled(stamp)
        self._names = (stamp, names) if kept and stamp is not None and names is not None else None


def layers_in(folder: Folder | None, remembered: Remembered | None) -> Chains:
    """Return what is known of the layers in `layerdb/sha256`; without it none is there."""
    if folder is None:
        return Chains(lambda _: None)
    if remembered is None:
        return Chains(lambda chain_id: noted_layer(folder, chain_id))
    return remembered.chains(folder)


def _is_settled(stamp: Stamp) -> bool:
    """Tell whether a change from now on would leave other times than those that are there."""
    fine = stamp[4] % _SECOND_NS  # some file systems keep whole seconds
    margin = SETTLED_NS if fine else SETTLED_COARSE_NS
    return max(stamp[3], stamp[4]) + margin < time.time_ns()
