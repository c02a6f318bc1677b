"""Read the members of a tar one after the other, without ever laying anything on disk.

The standard library decodes the headers; what surrounds them is done here, for its own reader takes
the size of an extended header from the archive, whatever it says, and takes a header that makes no
sense for the end. Here extended headers, members and their number are bounded, and a tar that does
not end with a block of zeros was cut off.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from msgspec import Struct

from eventstore.errors import SourceError
from eventstore.sources.archive_bytes import UnpackedBytes

BLOCK_SIZE = tarfile.BLOCKSIZE
EXTENDED_SIZE_MAX = 1 << 20
HEADERS_MAX = 1 << 18
TRAILER_SIZE_MAX = 1 << 26
_SIZE_DIGITS_MAX = 20
_KEYS, _SPARSE, _SPARSE_KEY = (b"path", b"size"), b"GNU.sparse.", "sparse"
_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE, _LONG_NAME, _LONG_LINK)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_LINKS = {tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a hard link"}
_WITHOUT_BYTES = (*_LINKS, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
_KINDS = {
    **_LINKS,
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_EXTENDED_FLAG, _MORE_FLAG = 482, 504  # where a sparse file's headers say that another one follows


class Member(Struct, frozen=True):
    """One member of an archive.

    Attributes:
        name: as the archive says it.
        size: of its bytes.
        irregular: what it is, if it is neither a regular file nor a folder; else nothing.
        is_file: whether it is a regular file.
    """

    name: str
    size: int
    irregular: str
    is_file: bool


class TarMembers:
    """The members of a tar, in their order; the bytes of each can be read while it is the last."""

    def __init__(self, source: UnpackedBytes) -> None:
        """Begin at the first byte."""
        self._source = source
        self._left = self._padding = 0
        self._headers = 0
        self.has_trailer = False

    def read(self, size: int) -> bytes:
        """Return the next bytes of the last member, as many as it has, at most `size`.

        Raises:
            SourceError: the archive ends too early, or cannot be read.
        """
        content = self._exactly(min(size, self._left))
        self._left -= len(content)
        return content

    def __iter__(self) -> Iterator[Member]:
        """Iterate over the members.

        Raises:
            SourceError: it is no tar, or is cut off, or beyond the bounds.
        """
        extended: dict[str, str] = {}
        while True:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
            block = self._exactly(BLOCK_SIZE)
            if not block.strip(b"\0"):
                break
            header = self._header(block)
            if header.type in _EXTENDED:
                content = self._extended(header)
                if header.type == _LONG_NAME:
                    extended["path"] = _text(content.split(b"\0", 1)[0])
                elif header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                    extended |= self._records(content)
                continue
            yield self._member(header, block, extended)
            extended = {}
        self._read_trailer()

    def _header(self, block: bytes) -> tarfile.TarInfo:
        self._headers += 1
        if self._headers > HEADERS_MAX:
            raise SourceError(self._source.name, f"has more than {HEADERS_MAX} members")
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            if self._headers == 1:
                raise SourceError(self._source.name, "is no image archive: it is no tar") from error
            number = self._headers
            raise SourceError(
                self._source.name, f"is damaged: header {number} makes no sense"
            ) from error
        if header.size < 0:
            raise SourceError(self._source.name, "is damaged: a member has a negative size")
        return header

    def _extended(self, header: tarfile.TarInfo) -> bytes:
        if header.size > EXTENDED_SIZE_MAX:
            raise SourceError(
                self._source.name,
                f"has an extended header of {header.size} bytes: it is no image's",
            )
        content = self._exactly(header.size)
        self._skip(-header.size % BLOCK_SIZE)
        return content

    def _records(self, content: bytes) -> dict[str, str]:
        """Return what an extended header says that counts: lines of a length, a key and a value."""
        found: dict[str, str] = {}
        while content:
            digits, blank, _ = content.partition(b" ")
            length = int(digits) if digits.isdigit() and len(digits) <= 8 else 0
            line = content[:length]
            if not blank or length <= len(digits) + 1 or not line.endswith(b"\n"):
                raise SourceError(self._source.name, "is damaged: an extended header is none")
            key, _, value = line[len(digits) + 1 : -1].partition(b"=")
            if key.startswith(_SPARSE):
                found[_SPARSE_KEY] = ""
            elif key in _KEYS:
                found[_text(key)] = _text(value)
            content = content[length:]
        return found

    def _member(self, header: tarfile.TarInfo, block: bytes, extended: dict[str, str]) -> Member:
        """Return a member as its header and the extended ones before it say."""
        size = header.size
        digits = extended.get("size")
        if digits is not None:
            if not (digits.isascii() and digits.isdigit() and len(digits) <= _SIZE_DIGITS_MAX):
                raise SourceError(self._source.name, "is damaged: the size of a member is none")
            size = int(digits)
        kind = header.type
        irregular = _KINDS.get(kind, "" if kind in (*_FILES, tarfile.DIRTYPE) else "unknown")
        if kind == tarfile.GNUTYPE_SPARSE:
            self._skip_sparse_headers(block)
        if _SPARSE_KEY in extended:
            irregular = "a sparse file"
        self._left = 0 if kind in _WITHOUT_BYTES else size
        self._padding = -self._left % BLOCK_SIZE
        name = extended.get("path", header.name)
        is_file = kind in _FILES and not irregular and not name.endswith("/")
        return Member(name, self._left, irregular, is_file)

    def _skip_sparse_headers(self, block: bytes) -> None:
        more = block[_EXTENDED_FLAG]
        while more:
            self._headers += 1
            if self._headers > HEADERS_MAX:
                raise SourceError(self._source.name, f"has more than {HEADERS_MAX} headers")
            more = self._exactly(BLOCK_SIZE)[_MORE_FLAG]

    def _read_trailer(self) -> None:
        """Read what follows the end, so that who writes a pipe is not cut off, and gzip checks."""
        left = TRAILER_SIZE_MAX
        while left > 0 and (part := self._source.read(min(left, BLOCK_SIZE * 128))):
            left -= len(part)
            self.has_trailer = self.has_trailer or bool(part.strip(b"\0"))

    def _exactly(self, size: int) -> bytes:
        content = self._source.read(size)
        if len(content) < size:
            raise self._cut_off()
        return content

    def _skip(self, size: int) -> None:
        if self._source.skip(size) < size:
            raise self._cut_off()

    def _cut_off(self) -> SourceError:
        if not self._headers:
            return SourceError(self._source.name, "is no image archive: it is no tar")
        return SourceError(self._source.name, "is cut off: it ends before the archive does")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
