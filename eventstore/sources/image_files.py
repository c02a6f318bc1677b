"""Give the files of an image layout or an image archive, wherever they lie.

Only what may be JSON is ever read: manifests, indexes and configs. Layers are passed by. A folder
is read as `regular_file` says, so nothing leads out of it; of an archive, which may come through a
pipe and in any order, all that could be such a file is held in memory, within bounds.
"""

from __future__ import annotations

import re
from typing import Protocol

from msgspec import Struct

from eventstore.errors import SourceError
from eventstore.image import CONFIG_SIZE_MAX
from eventstore.regular_file import Folder, IrregularFileError
from eventstore.sources.archive_bytes import UnpackedBytes
from eventstore.sources.found import PassedOver, printable
from eventstore.sources.tar_members import Member, TarMembers

KEPT_SIZE_MAX = 1 << 28
FINDINGS_MAX = 1000
DEPTH_MAX = 8
_START_SIZE = 64
_JSON_STARTS = (b"{", b"[")
_LAYER = re.compile(r"(?:.*/)?(?:layer\.tar|[^/]+\.tar(?:\.gz)?)", re.DOTALL)


class MissingFileError(Exception):
    """A file that is not there or cannot be taken; never leaves the package.

    Attributes:
        kind: what is wrong, as `PassedOver` has it.
        detail: the same for people.
    """

    def __init__(self, kind: str, detail: str) -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(detail)


class ImageFiles(Protocol):
    """Files by their paths, with slashes, below the top of a layout or an archive."""

    def read(self, path: str, size_max: int) -> bytes:
        """Return the bytes of a file.

        Raises:
            MissingFileError: it is not there, no regular file, or larger.
        """
        ...


class FolderFiles:
    """The files in a folder."""

    def __init__(self, folder: Folder) -> None:
        """Take a folder that its caller holds open."""
        self._folder = folder

    def read(self, path: str, size_max: int) -> bytes:
        """Return the bytes of a file.

        Raises:
            MissingFileError: it is not there, no regular file, or larger.
            SourceError: this user may not read it.
        """
        *folders, name = path.split("/")
        try:
            content = _read_below(self._folder, folders, name, size_max)
        except IrregularFileError as error:
            raise MissingFileError(error.kind, f"{path}: {error.detail}") from error
        if content is None:
            raise MissingFileError("missing", f"{path} is not there")
        return content


class ArchiveFiles(Struct, frozen=True):
    """The files of an archive that may be JSON, all of them read.

    Attributes:
        files: their bytes by path.
        left: the paths of what was not kept, with kind and detail.
        passed_over: what is hostile, or not as tools write it.
    """

    files: dict[str, bytes]
    left: dict[str, tuple[str, str]]
    passed_over: list[PassedOver]

    def read(self, path: str, size_max: int) -> bytes:
        """Return the bytes of a file.

        Raises:
            MissingFileError: it is not there, no regular file, or larger.
        """
        content = self.files.get(path)
        if content is None:
            raise MissingFileError(*self.left.get(path, ("missing", f"{path} is not there")))
        if len(content) > size_max:
            raise MissingFileError("too-large", f"{path} has more than {size_max} bytes")
        return content

    def below(self, top: str) -> ArchiveFiles:
        """Return the files in a folder of the archive, by their paths below it."""
        start = f"{top}/" if top else ""
        cut = len(start)
        files = {path[cut:]: held for path, held in self.files.items() if path.startswith(start)}
        left = {path[cut:]: why for path, why in self.left.items() if path.startswith(start)}
        return ArchiveFiles(files, left, self.passed_over)


def read_archive(source: UnpackedBytes) -> ArchiveFiles:
    """Read an archive to its end, and keep what may be JSON.

    Raises:
        SourceError: it is no tar, damaged or cut off, holds a file twice, or is beyond the bounds.
    """
    reading = _Reading(source)
    for member in reading.members:
        reading.take(member)
    if reading.members.has_trailer:
        reading.pass_over("trailing-data", source.name, "something follows its end")
    return ArchiveFiles(reading.files, reading.left, reading.passed_over)


def relative(name: str) -> str | None:
    """Return a member's name as a path below the top, None if it leads out of it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if name.startswith("/") or ".." in parts or "\0" in name else "/".join(parts)


class _Reading:
    """One reading of an archive."""

    def __init__(self, source: UnpackedBytes) -> None:
        self.members = TarMembers(source)
        self.files: dict[str, bytes] = {}
        self.left: dict[str, tuple[str, str]] = {}
        self.passed_over: list[PassedOver] = []
        self._source = source
        self._room = KEPT_SIZE_MAX

    def take(self, member: Member) -> None:
        """Keep a member, or note why it is not kept."""
        path = relative(member.name)
        if path is None:
            self.pass_over("unsafe-name", member.name, "it leads out of the archive")
        elif member.irregular:
            # The old form of `docker save` has links from one layer to another.
            if not _LAYER.fullmatch(path):
                detail = f"it is {member.irregular}, which is not followed"
                self.pass_over("not-a-file", path, detail)
            self._leave(path, "not-a-file", f"{path} is {member.irregular}")
        elif member.is_file and path.count("/") < DEPTH_MAX:
            self._keep(path, member)

    def pass_over(self, kind: str, name: str, detail: str) -> None:
        """Report something; an archive that is full of it is refused."""
        if len(self.passed_over) == FINDINGS_MAX:
            raise SourceError(
                self._source.name, f"holds more than {FINDINGS_MAX} members that no image has"
            )
        self.passed_over.append(PassedOver(kind, printable(name), printable(detail)))

    def _keep(self, path: str, member: Member) -> None:
        content = self.members.read(_START_SIZE)
        if not content.lstrip().startswith(_JSON_STARTS):
            self._leave(path, "not-json", f"{path} is no JSON")
            return
        if member.size > CONFIG_SIZE_MAX:
            self._leave(path, "too-large", f"{path} has more than {CONFIG_SIZE_MAX} bytes")
            return
        self._room -= member.size
        if self._room < 0:
            raise SourceError(self._source.name, f"holds more than {KEPT_SIZE_MAX} bytes of JSON")
        content += self.members.read(member.size)
        if path in self.left or self.files.setdefault(path, content) != content:
            raise self._twice(path)

    def _leave(self, path: str, kind: str, detail: str) -> None:
        # Two layers of one name are what old versions of Docker wrote; which counts is not ours.
        if path in self.files:
            raise self._twice(path)
        self.left[path] = kind, detail

    def _twice(self, path: str) -> SourceError:
        return SourceError(self._source.name, f"holds {printable(path)!r} twice, and differently")


def _read_below(folder: Folder, folders: list[str], name: str, size_max: int) -> bytes | None:
    """Return the bytes of a file some folders further down, None if there is none."""
    if not folders:
        return folder.read(name, size_max)
    below = folder.below(folders[0])
    if below is None:
        return None
    with below:
        return _read_below(below, folders[1:], name, size_max)
