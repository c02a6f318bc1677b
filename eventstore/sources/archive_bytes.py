"""Give the bytes of an archive as they are unpacked; the only module that knows `zstandard`.

How an archive is packed is told by its first bytes: gzip, Zstandard, or not at all. Nothing is read
twice, so that a pipe will do, and nothing is written anywhere. What comes out is bounded by what
goes in: `RATIO_MAX` is beyond what images pack to, and far below what a bomb needs.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, Protocol, cast

from eventstore.errors import SourceError, StoreUsageError

PART_SIZE = 1 << 16
UNPACKED_UNQUESTIONED = 1 << 30
RATIO_MAX = 200
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_MAGIC_SIZE = 6
_WINDOW_SIZE_MAX = 1 << 27


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes:
        """Return at most so many bytes, none at the end."""
        ...


class _Counted:
    """The packed bytes, counted as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ahead = b""
        self.count = 0

    def peek(self, size: int) -> bytes:
        """Return the first bytes, which are read again."""
        while len(self._ahead) < size and (part := self._file.read(size - len(self._ahead))):
            self._ahead += part
        return self._ahead

    def read(self, size: int = -1, /) -> bytes:
        """Return at most so many bytes, one part of them if no size is given."""
        part, self._ahead = self._ahead, b""
        if not part:
            part = self._file.read(PART_SIZE if size < 0 else size)
        elif 0 <= size < len(part):
            part, self._ahead = part[:size], part[size:]
        self.count += len(part)
        return part


class UnpackedBytes:
    """The bytes that a file or a pipe unpacks to, read once from the first to the last.

    Attributes:
        name: how the archive is called in errors.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Look at the first bytes.

        Raises:
            SourceError: it cannot be read, or is packed in a way that is not unpacked here.
            StoreUsageError: it needs `zstandard`, which is not installed.
        """
        self.name = name
        self._packed = _Counted(file)
        self._count = 0
        self._errors: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
        first = self._guarded(partial(self._packed.peek, _MAGIC_SIZE))
        for magic, packing in _OTHERS.items():
            if first.startswith(magic):
                raise SourceError(name, f"is packed with {packing}: unpack it first")
        self._is_packed = first.startswith((_GZIP, _ZSTD))
        self._source: _Readable = self._packed
        if first.startswith(_GZIP):
            self._source = gzip.GzipFile(fileobj=cast("BinaryIO", self._packed))
        elif first.startswith(_ZSTD):
            self._source = self._zstandard()

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer only at the end.

        Raises:
            SourceError: it cannot be read or unpacked, or is a bomb.
        """
        parts: list[bytes] = []
        while size > 0:
            part = self._guarded(partial(self._source.read, min(size, PART_SIZE)))
            if not part:
                break
            parts.append(part)
            size -= len(part)
            self._count += len(part)
            self._refuse_bomb()
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Read so many bytes and forget them; return how many there were."""
        skipped = 0
        while skipped < size and (part := self.read(min(size - skipped, PART_SIZE))):
            skipped += len(part)
        return skipped

    def _refuse_bomb(self) -> None:
        bound = max(UNPACKED_UNQUESTIONED, RATIO_MAX * self._packed.count)
        if self._is_packed and self._count > bound:
            raise SourceError(
                self.name,
                f"unpacks to more than {RATIO_MAX} times its size: it is taken for a bomb",
            )

    def _zstandard(self) -> _Readable:
        try:
            import zstandard
        except ImportError as error:
            raise StoreUsageError(
                f"{self.name} is packed with Zstandard, and that needs the package zstandard:"
                " install image-eventstore[zstd]"
            ) from error
        self._errors = (*self._errors, zstandard.ZstdError)
        unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW_SIZE_MAX)
        packed = cast("BinaryIO", self._packed)  # only `read` is asked of it
        return unpacker.stream_reader(packed, read_across_frames=True)

    def _guarded(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except self._errors as error:
            detail = "it ends too early" if isinstance(error, EOFError) else str(error)
            raise SourceError(self.name, f"cannot be unpacked: {detail}") from error
        except OSError as error:
            raise SourceError(self.name, f"cannot be read: {error.strerror or error}") from error
