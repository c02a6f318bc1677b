"""Read the image database of a Docker daemon as it lies on disk.

What counts is what Docker's own restore would list: content whose digest is its name, whose config
decodes, whose layers are in `layerdb` where there is one, and whose operating system the host runs
if it has layers. A parent counts if it is such an image and makes no cycle. Everything else is
passed over and reported under one of these kinds::

    not-a-digest             an entry whose name is no SHA-256 in hex
    not-a-file               an entry that is no regular file (or, in metadata, no folder)
    crash-leftover           a `.tmp-` file that Docker had not renamed yet when it was killed
    unreadable               the disk refused to give the bytes; what is known of it stays
    too-large                a config of more than 16 MiB, metadata of more than 4 KiB
    digest-mismatch          a config that is not what its name says
    invalid-config           a config that Docker cannot decode
    foreign-os               an image with layers for another operating system
    layers-missing           an image with layers that are not in layerdb
    metadata-without-config  what is left of an image that is gone
    unknown-metadata         metadata that no version of Docker is known to write
    parent-invalid           the noted parent is no image id; the image counts, without a parent
    parent-missing           the noted parent is not listed; the same
    parent-cycle             the image is its own ancestor; the same
    last-updated-invalid     the noted time is none; the image counts, without a last update
    built-invalid            the built mark is not the byte 1; the image counts as not built

Names are read from the `repositories.json` beside it; `docker_names` says how.

Nothing is ever written to the source, and nothing outside it is read: no link below the folder that
the caller names is followed, pipes are not waited for, devices are not opened, and sizes are
bounded, so that a hostile source can do no more than be refused. Docker itself would follow a link,
so an image behind one is passed over, but not taken for deleted; where a folder of the database
itself is a link, or no folder, or may not be read, the whole is an error, not an empty database.
Layout and rules are those of Docker's `image/fs.go` and `image/store.go` (`restore`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from eventstore import digest, host, regular_file
from eventstore.errors import InvalidImageError, LayerNotFoundError, SourceError
from eventstore.events import Created, pack_chain
from eventstore.go_json import decode_text
from eventstore.image import CONFIG_SIZE_MAX, Image
from eventstore.layers import Chains
from eventstore.progress import Progress, counted
from eventstore.regular_file import Folder, IrregularFileError, Stamp
from eventstore.sources import docker_names, parents
from eventstore.sources.found import (
    CONFIGS_SIZE_MAX,
    ConfigOf,
    Findings,
    PassedOver,
    SourceImage,
    last_update,
    unknown,
)
from eventstore.sources.remembered import Remembered, layers_in

METADATA_SIZE_MAX = 4096
_TEMPORARY = ".tmp-"
_PARENT, _LAST_UPDATED, _BUILT = "parent", "lastUpdated", "builtLocally"
_METADATA_KEYS = frozenset((_PARENT, _LAST_UPDATED, _BUILT))
_CONTENT = ("content", digest.ALGORITHM)
_METADATA = ("metadata", digest.ALGORITHM)
_KEPT_LENGTH_MAX = 256
_TOGETHER, _TOGETHER_SIZE = 64, 1 << 20
_Config = tuple[bytes, Created | None]
"""A config, and what creating its image means."""


class _Refused(Exception):  # noqa: N818 (it is a finding on the way to the report, not an error)
    """An entry that is passed over."""

    def __init__(self, kind: str, detail: str, *, unsure: bool = False) -> None:
        self.kind = kind
        self.detail = detail
        self.unsure = unsure
        super().__init__(kind)


class NoImageDBError(SourceError):
    """A folder is there, and there is no image database in it; never leaves the package as such.

    Attributes:
        link: which link may lead to one, as a half sentence; empty if there is none.
    """

    def __init__(self, path: str, message: str, link: str) -> None:
        self.link = link
        super().__init__(path, message + link)


class _Entry:
    """One config on its way through the stages of a reading."""

    __slots__ = ("chain_id", "config", "image_id", "known", "name", "os", "refused", "stamp")

    def __init__(self, name: str) -> None:
        self.name = name
        self.image_id = digest.PREFIX + name
        self.config: bytes | None = None
        self.chain_id = self.os = ""
        self.refused: PassedOver | None = None
        self.known: Created | None = None  # from the last reading
        self.stamp: Stamp | None = None

    def go_through(self, stage: Callable[[_Entry], None]) -> None:
        """Do the next thing with it, unless it was refused."""
        if self.refused is None:
            try:
                stage(self)
            except _Refused as refused:
                # The error itself would hold on to the config, and both to each other.
                self.config = None
                self.refused = PassedOver(
                    refused.kind, self.name, refused.detail, unsure=refused.unsure
                )

    def created(self) -> Created | None:
        """Return what creating the image means; None if that is too long to be kept.

        Among the configs of a hostile source each may be little more than one such name.
        """
        if self.known is not None:
            return self.known
        if len(self.chain_id) + len(self.os) > _KEPT_LENGTH_MAX:
            return None
        chain = pack_chain(self.chain_id) if self.chain_id else None
        return Created(digest.require(self.image_id), chain, self.os)


class DockerImageDB:
    """The image database of one Docker daemon and storage driver."""

    def __init__(self, path: Path, *below: str) -> None:
        """Read from an `imagedb` folder, and from the `layerdb` beside it if there is one.

        Args:
            path: the folder that the caller trusts; it may be a link.
            below: names of the folders that lead from there to `imagedb`, none of them a link;
                `find` looks for them.
        """
        self.path = path.joinpath(*below)
        self._trusted, self._below = path, below
        # Both folders lie beside each other, also where `imagedb` itself is what is trusted.
        self._beside = path if below else path.parent
        self._layerdb = (*below[:-1], "layerdb")

    @classmethod
    def find(cls, source: str | os.PathLike[str]) -> DockerImageDB:
        """Find the database in a Docker data root, its `image/<driver>` folder, or itself.

        Args:
            source: any of these folders.

        Raises:
            SourceError: there is none, there are several, or they may not be looked at.
        """
        path = Path(source)
        try:
            return cls(path, *_find(path))
        except OSError as error:
            raise regular_file.not_allowed(path, error) from error
        except ValueError as error:
            raise SourceError(repr(str(path)), f"is no path: {error}") from error

    def read(
        self,
        *,
        operating_system: str | None = None,
        config_of: ConfigOf = unknown,
        remembered: Remembered | None = None,
        told: Collection[str] | None = None,
        progress: Progress | None = None,
    ) -> Findings:
        """Read all images and what is known of them.

        Args:
            operating_system: whose images with layers count; the host's if not given.
            config_of: of no use here: reading a config costs less than looking for it.
            remembered: what the last reading found; what has not changed since is taken from it.
            told: names of the entries that may have changed since; None if nobody knows, so that
                all are looked at.
            progress: is told of how many configs are read, and then of how much metadata.

        Raises:
            SourceError: a folder or file may not be read, so that the list would not be whole.
        """
        with ExitStack() as stack:
            content = self._folder(stack, self._trusted, *self._below, *_CONTENT)
            if content is None:
                raise SourceError(str(self.path), "has gone away while it was being read")
            metadata = self._folder(stack, self._trusted, *self._below, *_METADATA)
            layers = None
            if self._folder(stack, self._beside, *self._layerdb) is not None:
                # Whether layers are there can only be told if these are folders, or nothing.
                below = (*self._layerdb, digest.ALGORITHM)
                layers = layers_in(self._folder(stack, self._beside, *below), remembered)
            system = operating_system or host.operating_system()
            reading = _Reading(content, metadata, layers, system, remembered, progress)
            found = reading.findings(told)
        return self._with_names(found, remembered)

    def _with_names(self, found: Findings, remembered: Remembered | None) -> Findings:
        """Add the names of images, from the file that lies beside the database."""
        passed_over = list(found.passed_over)
        names = docker_names.read_names(
            self._beside,
            self._layerdb[:-1],
            whole=bool(self._below),  # else it may be a copy of that folder alone
            passed_over=passed_over,
            remembered=remembered,
        )
        known = {image.image_id for image in found.images}
        known.update(entry.name for entry in found.passed_over if entry.unsure)
        passed_over += docker_names.without_image(names or {}, known.__contains__)
        return Findings(found.images, passed_over, names)

    def _folder(self, stack: ExitStack, path: Path, *below: str) -> Folder | None:
        """Open a folder of the database until the stack ends, None if there is none.

        Raises:
            SourceError: it is no folder, or may not be looked at.
        """
        try:
            found = Folder.open(path, *below)
        except IrregularFileError as error:
            raise SourceError(str(path.joinpath(*below)), error.detail) from error
        return None if found is None else stack.enter_context(found)


class _Reading:
    """One reading of a database, through folders that are held open."""

    def __init__(
        self,
        content: Folder,
        metadata: Folder | None,
        layers: Chains | None,
        system: str,
        remembered: Remembered | None,
        progress: Progress | None,
    ) -> None:
        self._remembered, self._progress = remembered, progress
        self._content = content
        self._metadata = metadata
        self._layers = layers
        self._system = system
        self._passed_over: list[PassedOver] = []
        self._unsure: set[str] = set()

    def findings(self, told: Collection[str] | None = None) -> Findings:
        """Read everything, or what was told of and what came or went, if the rest is known."""
        remembered, changed = self._remembered, None
        if remembered is not None and told is not None:
            changed = remembered.changed(self._content, self._metadata, told)
        elif remembered is not None:
            remembered.list_all(self._content, self._metadata)
        if remembered is None or changed is None:
            images = self._read_all()
        else:
            images = self._read_some(remembered, changed)
        if remembered is not None:
            remembered.images = images.copy()
            remembered.passed_over = self._passed_over.copy()
        parents.check(images, self._unsure, self._pass_over)
        ordered = [images[image_id] for image_id in sorted(images)]
        return Findings(ordered, self._passed_over)

    def _read_all(self) -> dict[str, SourceImage]:
        names = self._content.names()
        if self._remembered is not None:
            self._remembered.begin(frozenset(names))
        configs = dict(self._configs(names))
        noted = None if self._metadata is None else self._metadata.entries()
        images = dict(self._with_metadata(configs, noted or {}))
        self._gone(noted or {}, frozenset(names))
        return images

    def _read_some(self, remembered: Remembered, changed: set[str]) -> dict[str, SourceImage]:
        """Read some entries, and take the others as they were."""
        ids = {digest.PREFIX + name for name in changed}
        entries = {"/".join((*_CONTENT, name)) for name in changed} | ids
        entries |= {"/".join((*_METADATA, name)) for name in changed}
        self._passed_over = [entry for entry in remembered.passed_over if entry.name not in entries]
        self._unsure = {entry.name for entry in self._passed_over if entry.unsure}
        images = {name: image for name, image in remembered.images.items() if name not in ids}
        there = sorted(name for name in changed if self._content.has(name))
        configs = dict(self._configs(there))
        noted = [
            name for name in changed if self._metadata is not None and self._metadata.has(name)
        ]
        images.update(self._with_metadata(configs, noted))
        self._gone(noted, there)
        return images

    def _configs(self, names: list[str]) -> Iterator[tuple[str, _Config]]:
        """Iterate over ids and configs of the images that Docker would list.

        Some at a time go through all stages: what is done without system calls in between takes
        two thirds of the time.
        """
        room = CONFIGS_SIZE_MAX
        for entries in self._read_together(counted(names, self._progress, len(names))):
            for stage in (_decode, self._find_layers):
                for entry in entries:
                    entry.go_through(stage)
            for entry in entries:
                if entry.refused is not None:
                    self._pass_over_config(entry.refused)
                elif entry.config is not None:
                    room -= len(entry.config)
                    created = entry.created()
                    if self._remembered is not None:
                        self._remembered.keep_config(entry.name, entry.stamp, entry.config, created)
                    yield entry.image_id, (entry.config, created)
            if room < 0:
                raise SourceError(
                    str(self._content.path), f"holds more than {CONFIGS_SIZE_MAX} bytes of configs"
                )

    def _read_together(self, names: Iterable[str]) -> Iterator[list[_Entry]]:
        """Iterate over configs as they are read, as many at once as are small."""
        entries: list[_Entry] = []
        room = _TOGETHER_SIZE
        for name in names:
            entry = _Entry(name)
            entry.go_through(self._read)
            entries.append(entry)
            room -= len(entry.config or b"")
            if len(entries) == _TOGETHER or room <= 0:
                yield entries
                entries, room = [], _TOGETHER_SIZE
        yield entries

    def _read(self, entry: _Entry) -> None:
        """Read a config; what has gone since it was listed has none."""
        if entry.name.startswith(_TEMPORARY):
            raise _Refused("crash-leftover", "Docker was killed before it was renamed")
        if digest.parse(entry.image_id) is None:
            raise _Refused("not-a-digest", "its name is no SHA-256 in hex")
        if self._remembered is not None:
            entry.stamp, config, known = self._remembered.config(self._content, entry.name)
            if known is not None:
                entry.config, entry.known = config, known
                entry.chain_id, entry.os = known.chain_id or "", known.os
                return
        entry.config = _bytes(self._content, entry.name, CONFIG_SIZE_MAX)

    def _find_layers(self, entry: _Entry) -> None:
        """Refuse an image with layers that this host does not run, or does not have."""
        if not entry.chain_id:
            return
        if not host.runs(entry.os, self._system):
            detail = f"it is for {entry.os[:80]!r}, this host runs {self._system!r}"
            raise _Refused("foreign-os", detail)
        if self._layers is not None:
            try:
                self._layers.metadata(entry.chain_id)
            except LayerNotFoundError as error:
                detail = f"layer does not exist: {entry.chain_id[:80]}"
                raise _Refused("layers-missing", detail) from error

    def _pass_over_config(self, refused: PassedOver) -> None:
        image_id = digest.PREFIX + refused.name
        named = image_id if digest.parse(image_id) else "/".join((*_CONTENT, refused.name))
        self._pass_over(refused.kind, named, refused.detail, unsure=refused.unsure)

    def _with_metadata(
        self, configs: dict[str, _Config], noted: Collection[str]
    ) -> Iterator[tuple[str, SourceImage]]:
        """Iterate over ids and images with what their metadata says, parents unchecked.

        Args:
            configs: the images.
            noted: names of all that lies among the metadata.
        """
        for image_id, (config, created) in counted(configs.items(), self._progress, len(configs)):
            name = image_id.removeprefix(digest.PREFIX)
            if self._remembered is not None and self._metadata is not None and name in noted:
                known = self._remembered.image(self._metadata, name, config)
                if known is not None:
                    yield image_id, known
                    continue
            try:
                folder = None
                if self._metadata is not None and name in noted:
                    folder = self._metadata.below_to_list(name)
            except IrregularFileError as error:
                detail = f"its metadata: {error.detail}"
                self._pass_over(error.kind, image_id, detail, unsure=error.unsure)
                folder = None
            if folder is None:
                found = SourceImage(image_id, config, created=created)
            else:
                with folder:
                    found = self._image(image_id, config, created, folder)
            if self._content.has(name):  # Docker removes it after the metadata
                yield image_id, found

    def _image(
        self, image_id: str, config: bytes, created: Created | None, folder: Folder
    ) -> SourceImage:
        """Return an image with what its metadata says, its parent unchecked."""
        entries = folder.entries()
        name = image_id.removeprefix(digest.PREFIX)
        before = len(self._passed_over)
        stamps: list[Stamp | None] = []
        if self._remembered is not None and self._metadata is not None:
            stamps = self._remembered.stamps(self._metadata, name, entries)
        image = self._image_of(image_id, config, created, folder, entries)
        if self._remembered is not None and len(self._passed_over) == before:
            self._remembered.keep_image(name, entries, stamps, image)
        return image

    def _image_of(
        self,
        image_id: str,
        config: bytes,
        created: Created | None,
        folder: Folder,
        entries: dict[str, bool],
    ) -> SourceImage:
        for name in sorted(entries.keys() - _METADATA_KEYS):
            if name.startswith(_TEMPORARY):
                self._pass_over("crash-leftover", image_id, f"{name} was never renamed")
            else:
                detail = f"{name!r} is no metadata of Docker's"
                self._pass_over("unknown-metadata", image_id, detail)
        noted = partial(self._noted, image_id, folder, entries)
        updated = noted(_LAST_UPDATED, "last-updated-invalid")
        built = noted(_BUILT, "built-invalid")
        return SourceImage(
            image_id,
            config,
            parent=self._parent(image_id, noted(_PARENT, "parent-invalid")),
            last_updated_ns=self._instant(image_id, updated),
            built_locally=self._built(image_id, built),
            created=created,
        )

    def _noted(
        self, image_id: str, folder: Folder, entries: dict[str, bool], name: str, kind: str
    ) -> bytes | None:
        """Return one piece of metadata, None if there is none."""
        if name not in entries:
            return None
        try:
            return _bytes(folder, name, METADATA_SIZE_MAX, regular=entries[name])
        except _Refused as refused:
            detail = f"{name}: {refused.detail}"
            self._pass_over(kind, image_id, detail, unsure=refused.unsure)
            return None

    def _parent(self, image_id: str, noted: bytes | None) -> str | None:
        if noted is None:
            return None
        parent = decode_text(noted)
        if digest.parse(parent) is None:
            self._pass_over("parent-invalid", image_id, f"{parent[:80]!r} is no image id")
            return None
        return parent

    def _instant(self, image_id: str, noted: bytes | None) -> int | None:
        if noted is None:
            return None
        try:
            return last_update(decode_text(noted))
        except ValueError as error:
            self._pass_over("last-updated-invalid", image_id, str(error))
            return None

    def _built(self, image_id: str, noted: bytes | None) -> bool:
        """Tell whether the mark is set; Docker looks at the first byte only."""
        if noted is not None and noted != b"\x01":
            detail = f"the built mark is {noted[:16]!r}, not the byte 1"
            self._pass_over("built-invalid", image_id, detail)
        return noted is not None and noted[:1] == b"\x01"

    def _gone(self, noted: Collection[str], there: Collection[str]) -> None:
        """Report metadata that belongs to no config.

        Args:
            noted: names of all that lies among the metadata.
            there: names of all that lies among the configs; what is not may have come since.
        """
        for name in sorted(name for name in noted if name not in there):
            image_id = digest.PREFIX + name
            if digest.parse(image_id) is None:
                named = "/".join((*_METADATA, name))
                self._pass_over("not-a-digest", named, "no SHA-256 in hex")
            elif not self._content.has(name):
                self._pass_over("metadata-without-config", image_id, "there is no such config")

    def _pass_over(self, kind: str, name: str, detail: str, *, unsure: bool = False) -> None:
        if unsure:
            self._unsure.add(name)
        self._passed_over.append(PassedOver(kind, _printable(name), _printable(detail), unsure))


def _find(path: Path) -> tuple[str, ...]:
    """Return the names of the folders that lead from a path to an `imagedb`.

    A folder on the way that is a link is not followed. It is named where nothing else is found.
    """
    if not path.exists():
        raise SourceError(str(path), "there is no such folder")
    links: list[Path] = []
    for inner in ((), ("imagedb",)):
        if _leads_to_images(path, inner, links):
            return inner
    for above in (("image",), ()):
        drivers = [
            name
            for name in _names(path, above, links)
            if _leads_to_images(path, (*above, name, "imagedb"), links)
        ]
        if len(drivers) > 1:
            example = path.joinpath(*above, drivers[0])
            raise SourceError(
                str(path),
                f"holds the images of several storage drivers ({', '.join(drivers)}): "
                f"name one of them, such as {example}",
            )
        if drivers:
            return (*above, drivers[0], "imagedb")
    link = f"; {links[0]} is a link: name what it leads to" if links else ""
    raise NoImageDBError(
        str(path),
        "is not Docker's image database: no imagedb/content/sha256 in it or in its image/<driver>",
        link,
    )


def _leads_to_images(path: Path, inner: tuple[str, ...], links: list[Path]) -> bool:
    """Tell whether a folder is an `imagedb`; note the links that stand in the way."""
    try:
        found = Folder.open(path, *inner, *_CONTENT)
    except IrregularFileError as error:
        if error.unsure and inner:
            links.append(path.joinpath(*inner))
        return False
    if found is None:
        return False
    found.close()
    return True


def _names(path: Path, above: tuple[str, ...], links: list[Path]) -> list[str]:
    try:
        found = Folder.open(path, *above)
    except IrregularFileError as error:
        if error.unsure:
            links.append(path.joinpath(*above))
        return []
    if found is None:
        return []
    with found as folder:
        return folder.names()


def _bytes(folder: Folder, name: str, size_max: int, *, regular: bool = False) -> bytes | None:
    """Return the bytes of a regular file, None if there is none.

    Raises:
        _Refused: it is no regular file, too large, or the disk fails.
        SourceError: this user may not read it.
    """
    try:
        return folder.read(name, size_max, regular=regular)
    except IrregularFileError as error:
        raise _Refused(error.kind, error.detail, unsure=error.unsure) from error


def _decode(entry: _Entry) -> None:
    """Refuse a config that is not what its name says, or that Docker's restore would not list."""
    config = entry.config
    if config is None or entry.known is not None:
        return
    try:
        image = Image.from_stored(config)
        found = image.id
    except InvalidImageError as error:
        found = digest.to_text(digest.digest_of(config))
        if found == entry.image_id:
            raise _Refused("invalid-config", error.reason) from error
    else:
        entry.chain_id, entry.os = image.root_fs.chain_id(), image.os
    if found != entry.image_id:
        raise _Refused("digest-mismatch", f"its content is {found}")


def _printable(text: str) -> str:
    """Return a text that can be stored and printed, whatever bytes a file's name had."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
