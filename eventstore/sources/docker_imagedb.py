"""Read the image database of a Docker daemon as it lies on disk.

What counts is what Docker's own restore would list: content whose digest is its name, whose config
decodes, whose layers are in `layerdb` where there is one, and whose operating system the host runs
if it has layers. A parent counts if it is such an image and makes no cycle. Everything else is
passed over and reported under one of these kinds::

    not-a-digest             an entry whose name is no SHA-256 in hex
    not-a-file               an entry that is no regular file (or, in metadata, no folder)
    crash-leftover           a `.tmp-` file that Docker had not renamed yet when it was killed
    unreadable               the disk refused to give the bytes
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

Nothing is ever written to the source. Links are not followed below the database's folders, pipes
are not waited for, and sizes are bounded, so that a hostile source can do no more than be refused.
A folder that may not be read is an error, not an empty database. Layout and rules are those of
Docker's `image/fs.go` and `image/store.go` (`restore`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from eventstore import clock, digest, host, regular_file
from eventstore.errors import InvalidImageError, LayerNotFoundError, SourceError
from eventstore.image import CONFIG_SIZE_MAX, Image, parse_instant
from eventstore.layers import DockerLayerDB
from eventstore.sources.found import Findings, PassedOver, SourceImage

METADATA_SIZE_MAX = 4096
_TEMPORARY = ".tmp-"
_PARENT, _LAST_UPDATED, _BUILT = "parent", "lastUpdated", "builtLocally"
_METADATA_KEYS = frozenset((_PARENT, _LAST_UPDATED, _BUILT))
_CONTENT = Path("content") / digest.ALGORITHM
_METADATA = Path("metadata") / digest.ALGORITHM
_GO_ZERO_TIME = clock.MIN_NS  # what Docker takes for "never updated"


class _Refused(Exception):  # noqa: N818 (it is a finding on the way to the report, not an error)
    """An entry that is passed over."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(kind)


class DockerImageDB:
    """The image database of one Docker daemon and storage driver."""

    def __init__(self, path: Path) -> None:
        """Read from an `imagedb` folder, and from the `layerdb` beside it if there is one.

        Args:
            path: the `imagedb` folder; `find` looks for it.
        """
        self.path = path
        layerdb = path.parent / "layerdb"
        self._layers = DockerLayerDB(layerdb) if layerdb.is_dir() else None
        self._passed_over: list[PassedOver] = []

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
            return cls(_find(path))
        except OSError as error:
            raise regular_file.not_allowed(path, error) from error
        except ValueError as error:
            raise SourceError(repr(str(path)), f"is no path: {error}") from error

    def read(self, *, operating_system: str | None = None) -> Findings:
        """Read all images and what is known of them.

        Args:
            operating_system: whose images with layers count; the host's if not given.

        Raises:
            SourceError: a folder or file may not be read, so that the list would not be whole.
        """
        self._passed_over = []
        system = operating_system or host.operating_system()
        configs = dict(self._configs(system))
        images = dict(self._with_metadata(configs))
        self._check_parents(images)
        self._gone(configs)
        ordered = [images[image_id] for image_id in sorted(images)]
        return Findings(ordered, self._passed_over)

    def _configs(self, system: str) -> Iterator[tuple[str, bytes]]:
        """Iterate over ids and configs of the images that Docker would list."""
        names = regular_file.names(self.path / _CONTENT)
        if names is None:
            raise SourceError(str(self.path), "has gone away while it was being read")
        for name in names:
            image_id = digest.PREFIX + name
            try:
                if name.startswith(_TEMPORARY):
                    raise _Refused("crash-leftover", "Docker was killed before it was renamed")
                if digest.parse(image_id) is None:
                    raise _Refused("not-a-digest", "its name is no SHA-256 in hex")
                config = _content(self.path / _CONTENT / name, CONFIG_SIZE_MAX)
                if config is None:
                    continue
                self._check(image_id, config, system)
            except _Refused as refused:
                named = str(_CONTENT / name) if digest.parse(image_id) is None else image_id
                self._pass_over(refused.kind, named, refused.detail)
            else:
                yield image_id, config

    def _check(self, image_id: str, config: bytes, system: str) -> None:
        """Refuse a config that Docker's restore would not list."""
        found = digest.to_text(digest.digest_of(config))
        if found != image_id:
            raise _Refused("digest-mismatch", f"its content is {found}")
        try:
            image = Image.from_stored(config)
        except InvalidImageError as error:
            raise _Refused("invalid-config", error.reason) from error
        chain_id = image.root_fs.chain_id()
        if not chain_id:
            return
        if not host.runs(image.os, system):
            raise _Refused("foreign-os", f"it is for {image.os!r}, this host runs {system!r}")
        if self._layers is not None:
            try:
                self._layers.get(chain_id)
            except LayerNotFoundError as error:
                raise _Refused("layers-missing", f"{error}") from error

    def _with_metadata(self, configs: dict[str, bytes]) -> Iterator[tuple[str, SourceImage]]:
        """Iterate over ids and images with what their metadata says, parents unchecked."""
        for image_id, config in configs.items():
            folder = self.path / _METADATA / image_id.removeprefix(digest.PREFIX)
            self._report_strangers(image_id, folder)
            updated = self._metadata(image_id, folder / _LAST_UPDATED, "last-updated-invalid")
            built = self._metadata(image_id, folder / _BUILT, "built-invalid")
            yield (
                image_id,
                SourceImage(
                    image_id,
                    config,
                    parent=self._parent(image_id, folder),
                    last_updated_ns=self._instant(image_id, updated),
                    built_locally=self._built(image_id, built),
                ),
            )

    def _report_strangers(self, image_id: str, folder: Path) -> None:
        """Report what lies in a metadata folder and is not Docker's metadata."""
        for name in regular_file.names(folder) or ():
            if name.startswith(_TEMPORARY):
                self._pass_over("crash-leftover", image_id, f"{name} was never renamed")
            elif name not in _METADATA_KEYS:
                self._pass_over(
                    "unknown-metadata", image_id, f"{name!r} is no metadata of Docker's"
                )

    def _metadata(self, image_id: str, path: Path, kind: str) -> bytes | None:
        """Return one piece of metadata, None if there is none."""
        try:
            return _content(path, METADATA_SIZE_MAX)
        except _Refused as refused:
            self._pass_over(kind, image_id, f"{path.name}: {refused.detail}")
            return None

    def _parent(self, image_id: str, folder: Path) -> str | None:
        noted = self._metadata(image_id, folder / _PARENT, "parent-invalid")
        if noted is None:
            return None
        parent = noted.decode("utf-8", "replace")
        if digest.parse(parent) is None:
            self._pass_over("parent-invalid", image_id, f"{parent[:80]!r} is no image id")
            return None
        return parent

    def _instant(self, image_id: str, noted: bytes | None) -> int | None:
        if noted is None:
            return None
        text = noted.decode("utf-8", "replace")
        instant = parse_instant(text)
        if instant is None:
            self._pass_over("last-updated-invalid", image_id, f"{text[:80]!r} is no RFC 3339 time")
        elif instant != _GO_ZERO_TIME and not (
            clock.STORED_MIN_NS <= instant <= clock.STORED_MAX_NS
        ):
            detail = f"{text[:80]!r} is not within the years 1678 to 2261"
            self._pass_over("last-updated-invalid", image_id, detail)
            instant = None
        return None if instant == _GO_ZERO_TIME else instant

    def _built(self, image_id: str, noted: bytes | None) -> bool:
        """Tell whether the mark is set; Docker looks at the first byte only."""
        if noted is not None and noted != b"\x01":
            detail = f"the built mark is {noted[:16]!r}, not the byte 1"
            self._pass_over("built-invalid", image_id, detail)
        return noted is not None and noted[:1] == b"\x01"

    def _check_parents(self, images: dict[str, SourceImage]) -> None:
        """Take away the parents that are not listed, or that make an image its own ancestor."""
        for image_id, image in list(images.items()):
            if image.parent is not None and image.parent not in images:
                self._pass_over("parent-missing", image_id, f"{image.parent} is not listed")
                images[image_id] = _orphan(image)
        for image_id in _in_cycles(images):
            self._pass_over("parent-cycle", image_id, "it is its own ancestor")
            images[image_id] = _orphan(images[image_id])

    def _gone(self, configs: dict[str, bytes]) -> None:
        """Report metadata that belongs to no config."""
        for name in regular_file.names(self.path / _METADATA) or ():
            image_id = digest.PREFIX + name
            if digest.parse(image_id) is None:
                self._pass_over("not-a-digest", str(_METADATA / name), "no SHA-256 in hex")
            elif not os.path.lexists(self.path / _CONTENT / name):
                self._pass_over("metadata-without-config", image_id, "there is no such config")
            elif image_id in configs and not _is_folder(self.path / _METADATA / name):
                self._pass_over("not-a-file", image_id, "its metadata is no folder")

    def _pass_over(self, kind: str, name: str, detail: str) -> None:
        self._passed_over.append(PassedOver(kind, _printable(name), _printable(detail)))


def _find(path: Path) -> Path:
    if not path.exists():
        raise SourceError(str(path), "there is no such folder")
    for inner in (Path(), Path("imagedb")):
        if (path / inner / _CONTENT).is_dir():
            return path / inner
    for parent in (path / "image", path):
        drivers = [
            name
            for name in regular_file.names(parent) or ()
            if (parent / name / "imagedb" / _CONTENT).is_dir()
        ]
        if len(drivers) > 1:
            raise SourceError(
                str(path),
                f"holds the images of several storage drivers ({', '.join(drivers)}): "
                f"name one of them, such as {parent / drivers[0]}",
            )
        if drivers:
            return parent / drivers[0] / "imagedb"
    raise SourceError(
        str(path),
        "is not Docker's image database: no imagedb/content/sha256 in it or in its image/<driver>",
    )


def _content(path: Path, size_max: int) -> bytes | None:
    """Return the bytes of a regular file, None if there is none.

    Raises:
        _Refused: it is no regular file, too large, or the disk fails.
        SourceError: this user may not read it.
    """
    try:
        return regular_file.read(path, size_max)
    except regular_file.IrregularFileError as error:
        raise _Refused(error.kind, error.detail) from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir() and not path.is_symlink()
    except OSError as error:
        raise regular_file.not_allowed(path, error) from error


def _orphan(image: SourceImage) -> SourceImage:
    return SourceImage(
        image.image_id,
        image.config,
        last_updated_ns=image.last_updated_ns,
        built_locally=image.built_locally,
    )


def _in_cycles(images: dict[str, SourceImage]) -> list[str]:
    """Return the images that are their own ancestors, sorted.

    Every image has at most one parent, so each walk upwards ends, or comes to an image of this very
    walk: from there on it is a cycle.
    """
    found: list[str] = []
    walk_of: dict[str, str] = {}
    for start in images:
        at: str | None = start
        path: list[str] = []
        while at is not None and at not in walk_of:
            walk_of[at] = start
            path.append(at)
            at = images[at].parent
        if at is not None and walk_of[at] == start:
            found.extend(path[path.index(at) :])
    return sorted(found)


def _printable(text: str) -> str:
    """Return a text that can be stored and printed, whatever bytes a file's name had."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
