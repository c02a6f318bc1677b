"""Read the images of a containers/storage root, where Podman, Buildah and CRI-O keep theirs.

A root holds a folder for each storage driver, such as `overlay-images`. In it `images.json` lists
the images, with their names, and each has a folder of named items. An image's config is the item
that is called as its digest. An item's file is called as the item where that is made of small
letters, digits and dots, and otherwise `=` and the name in base64::

    overlay-images/images.json              [{"id": "<hex>", "names": [...], ...}, ...]
    overlay-images/<hex>/=c2hhMjU2OjViYz…   the item `sha256:5bc…`: the config, its exact bytes

What counts is what `podman images --all` lists and is an image by its config: an id may also be
random, as that of a manifest list, or be made from layers, as that of an image of Docker's first
schema. There are no last updates and no built marks. `ParentId` is nothing that is kept: Podman
guesses it anew from layers and history each time, so there are no parents either. Everything else
is passed over and reported under one of these kinds::

    invalid-entry            an entry of `images.json` that is null
    not-a-digest             an image whose id is no SHA-256 in hex
    id-not-of-config         an image that has items, and none that is called as its id
    duplicate-entry          an image that is listed more than once; it counts once, with all names
    config-missing           the config is listed and not there, or there is no item yet
    not-a-file               a config, or the folder of it, that is no regular file (no folder)
    unreadable               the disk refused to give the bytes
    too-large                a config of more than 16 MiB
    digest-mismatch          a config that is not what its name says
    invalid-config           a config that Docker cannot decode
    name-invalid             a name that is none by Docker's rules
    name-twice               a name that several images have; it is that of the last one
    name-without-image       a name of an image that does not count

Podman goes on listing all of these images, so what is known of one stays. `images.json` is decoded
as Go does; one that cannot be read or decoded is an error. It is replaced as a whole whenever it
changes, so no lock is taken; when a config is not where it should be, the list is read again, for
the image may have been removed in between. Read-only additional stores are not looked at: they are
roots of their own. As with Docker's database nothing is written, no link below the folder that the
caller names is followed, and what is read is bounded in size.
"""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path
from typing import Any

from eventstore import digest, go_json, regular_file
from eventstore.errors import InvalidImageError, SourceError
from eventstore.go_json import GoJSONError
from eventstore.image import CONFIG_SIZE_MAX, Image
from eventstore.progress import Progress, counted
from eventstore.regular_file import Folder, IrregularFileError
from eventstore.sources import docker_names
from eventstore.sources.found import (
    CONFIGS_SIZE_MAX,
    ConfigOf,
    Findings,
    PassedOver,
    SourceImage,
    printable,
    take_name,
    unknown,
)

IMAGES, LOCK, SUFFIX = "images.json", "images.lock", "-images"
IMAGES_SIZE_MAX = 1 << 26
READINGS_MAX = 5
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.")
_ITEMS = "big-data-names"
_texts = go_json.list_of(go_json.string, str)
_image = go_json.struct_of(
    {"id": ("id", go_json.string), "names": ("names", _texts), _ITEMS: (_ITEMS, _texts)}
)
_images = go_json.list_of(_image, lambda: None)


class ContainersStorage:
    """The images of one containers/storage root and storage driver."""

    def __init__(self, path: Path, *below: str) -> None:
        """Read from a folder with an `images.json`.

        Args:
            path: the folder that the caller trusts; it may be a link.
            below: the name of the folder in it that has the file, if it is not in the first.
        """
        self.path = path.joinpath(*below)
        self._trusted, self._below = path, below

    @classmethod
    def find(cls, source: str | os.PathLike[str]) -> ContainersStorage | None:
        """Find the images in a root or in its `<driver>-images` folder, None if there are none.

        Args:
            source: either of these folders.

        Raises:
            SourceError: there are those of several drivers, they lie behind a link, or they may
                not be looked at.
        """
        path = Path(source)
        try:
            return cls._find(path)
        except OSError as error:
            raise regular_file.not_allowed(path, error) from error
        except ValueError as error:
            raise SourceError(repr(str(path)), f"is no path: {error}") from error

    @classmethod
    def _find(cls, path: Path) -> ContainersStorage | None:
        found = Folder.open(path)
        if found is None:
            return None
        with found as folder:
            if folder.has(IMAGES) or (path.name.endswith(SUFFIX) and folder.has(LOCK)):
                return cls(path)
            names = [name for name in folder.names() if name.endswith(SUFFIX)]
            drivers = [name for name in names if _holds_images(folder, name)]
            links = [name for name in names if folder.is_link(name)]
        if len(drivers) > 1:
            raise SourceError(
                str(path),
                f"holds the images of several storage drivers ({', '.join(drivers)}): "
                f"name one of them, such as {path / drivers[0]}",
            )
        if links and not drivers:
            raise SourceError(str(path / links[0]), "is a link: name what it leads to")
        return cls(path, drivers[0]) if drivers else None

    def read(
        self,
        *,
        operating_system: str | None = None,
        config_of: ConfigOf = unknown,
        progress: Progress | None = None,
    ) -> Findings:
        """Read all images and their names.

        Args:
            operating_system: of no use here: Podman lists the images for every one.
            config_of: of no use here: reading a config costs less than looking for it.
            progress: is told of how many images are read.

        Raises:
            SourceError: the list of images cannot be read or makes no sense, or a folder or file
                may not be read.
        """
        readings = 0
        while True:
            readings += 1
            with self._folder() as folder:
                raw = self._list(folder)
                reading = _Reading(folder, self._decoded(raw))
                found = reading.findings(progress)
                whole = not reading.incomplete or self._list(folder) == raw
            if whole or readings == READINGS_MAX:
                return found

    def _folder(self) -> Folder:
        try:
            found = Folder.open(self._trusted, *self._below)
        except IrregularFileError as error:
            raise SourceError(str(self.path), error.detail) from error
        if found is None:
            raise SourceError(str(self.path), "has gone away while it was being read")
        return found

    def _list(self, folder: Folder) -> bytes:
        """Return what lists the images; without it there is none, as on a fresh host."""
        try:
            raw = folder.read(IMAGES, IMAGES_SIZE_MAX)
        except IrregularFileError as error:
            raise SourceError(str(self.path / IMAGES), error.detail) from error
        if raw is None and not folder.has(LOCK):
            raise SourceError(str(self.path), "has gone away while it was being read")
        return raw or b""

    def _decoded(self, raw: bytes) -> tuple[dict[str, Any] | None, ...]:
        """Return the entries of the list; Podman takes a file without a byte for an empty one."""
        try:
            return _images(go_json.parse(raw), None) or () if raw else ()
        except GoJSONError as error:
            path = str(self.path / IMAGES)
            raise SourceError(path, printable(f"is no list of images: {error}")) from error


class _Refused(Exception):  # noqa: N818 (it is a finding on the way to the report, not an error)
    """A config that cannot be had."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(kind)


class _Reading:
    """One reading of the images that a list names, through a folder that is held open."""

    def __init__(self, folder: Folder, entries: tuple[dict[str, Any] | None, ...]) -> None:
        self._folder = folder
        self._entries = entries
        self._room = CONFIGS_SIZE_MAX
        self._images: dict[str, SourceImage] = {}
        self._seen: set[str] = set()
        self._passed_over: list[PassedOver] = []
        self.incomplete = False  # whether a config is not where the list says

    def findings(self, progress: Progress | None) -> Findings:
        """Read everything."""
        named: list[tuple[str, str]] = []
        entries = counted(self._entries, progress, len(self._entries))
        for number, entry in enumerate(entries):
            if entry is None:
                self._pass_over("invalid-entry", f"{IMAGES}[{number}]", "it is null")
                continue
            image_id = digest.PREFIX + (entry.get("id") or "")
            if digest.parse(image_id) is None:
                shown = repr(image_id.removeprefix(digest.PREFIX)[:80])
                self._pass_over("not-a-digest", f"{IMAGES}[{number}]", f"its id is {shown}")
                continue
            named += [(name, image_id) for name in entry.get("names") or ()]
            if image_id in self._seen:
                self._pass_over("duplicate-entry", image_id, f"{IMAGES}[{number}] lists it again")
                continue
            self._seen.add(image_id)
            self._take(image_id, frozenset(entry.get(_ITEMS) or ()))
        names = self._names(named)
        self._passed_over += docker_names.without_image(names, self._seen.__contains__)
        return Findings(
            [self._images[image_id] for image_id in sorted(self._images)],
            self._passed_over,
            names,
        )

    def _take(self, image_id: str, items: frozenset[str]) -> None:
        """Take an image, or pass over it."""
        try:
            config = self._config(image_id, items)
        except _Refused as refused:
            self._pass_over(refused.kind, image_id, refused.detail, unsure=True)
            return
        self._room -= len(config)
        if self._room < 0:
            raise SourceError(
                str(self._folder.path), f"holds more than {CONFIGS_SIZE_MAX} bytes of configs"
            )
        self._images[image_id] = SourceImage(
            image_id, config, built_locally=None, tells_last_updated=False
        )

    def _config(self, image_id: str, items: frozenset[str]) -> bytes:
        """Return the config of an image.

        Raises:
            _Refused: it cannot be had.
            SourceError: this user may not read it.
        """
        try:
            config = self._item(image_id.removeprefix(digest.PREFIX), image_id)
        except IrregularFileError as error:
            raise _Refused(error.kind, error.detail) from error
        if config is None:
            if items and image_id not in items:
                raise _Refused("id-not-of-config", "none of its items is a config of that digest")
            self.incomplete = True
            raise _Refused("config-missing", "its config is not there")
        found = digest.to_text(digest.digest_of(config))
        if found != image_id:
            raise _Refused("digest-mismatch", f"its config is {found}")
        try:
            Image.from_checked(config, image_id)
        except InvalidImageError as error:
            raise _Refused("invalid-config", error.reason) from error
        return config

    def _item(self, name: str, item: str) -> bytes | None:
        below = self._folder.below(name)
        if below is None:
            return None
        with below as folder:
            return folder.read(file_name(item), CONFIG_SIZE_MAX)

    def _names(self, named: list[tuple[str, str]]) -> dict[str, str]:
        """Return canonical names and images; of two equal names the last one counts."""
        names: dict[str, str] = {}
        for text, image_id in named:
            take_name(text, image_id, names, self._pass_over)
        return names

    def _pass_over(self, kind: str, name: str, detail: str, *, unsure: bool = False) -> None:
        self._passed_over.append(PassedOver(kind, printable(name), printable(detail), unsure))


def file_name(item: str) -> str:
    """Return what the file of an item is called, as `makeBigDataBaseName` of containers/storage.

    That function looks at whether anything is left behind the first letter that is not plain, so
    one at the very end does not count.
    """
    plain = all(letter in _PLAIN for letter in item[:-1])
    return item if plain else "=" + b64encode(item.encode()).decode()


def _holds_images(folder: Folder, name: str) -> bool:
    """Tell whether a folder is that of a driver's images; a link is not followed."""
    try:
        below = folder.below(name)
    except IrregularFileError:
        return False
    if below is None:
        return False
    with below as found:
        return found.has(IMAGES) or found.has(LOCK)
