"""Find a config in the archive that `docker save` makes, while it streams by.

Docker hands out the exact bytes of a config in no other way than together with the layers. The
archive is a tar in one of two forms; in each the member is called as the digest::

    <hex>.json               up to Docker 24
    blobs/sha256/<hex>       since Docker 25, which is an OCI image layout as well

Nothing is written to disk and nothing but this member is kept: layers are skipped as they come,
and reading ends with the member. Only headers of 512 bytes are looked at, and the `size` of a PAX
header, which a layer of more than 8 GiB has. What is not a tar is an error of one kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eventstore import digest

BLOCK_SIZE = 512
PAX_SIZE_MAX = 1 << 20
PAX_LENGTH_DIGITS, SIZE_DIGITS = 8, 20
MEMBERS_MAX = 1 << 20
_NAME, _SIZE, _TYPE = slice(0, 100), slice(124, 136), 156
_CHECKSUM = slice(148, 156)
_PAX, _REGULAR = ord("x"), (ord("0"), 0)
_SIZE_KEY = b"size"
_BINARY = 0x80


class NoTarError(ValueError):
    """The archive is no tar, or ends too early; never leaves the package."""


class _Stream:
    """Bytes that come in parts, and are read or skipped in other parts."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._part: memoryview[int] = memoryview(b"")

    def take(self, size: int) -> Iterator[memoryview[int]]:
        """Iterate over the next bytes.

        Raises:
            NoTarError: there are fewer.
        """
        while size:
            if not self._part:
                part = next(self._parts, None)
                if part is None:
                    raise NoTarError("the archive ends too early")
                self._part = memoryview(part)
                continue
            taken, self._part = self._part[:size], self._part[size:]
            size -= len(taken)
            yield taken

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        return b"".join(self.take(size))

    def skip(self, size: int) -> None:
        """Leave out the next bytes."""
        for _ in self.take(size):
            pass


def find(parts: Iterable[bytes], image_id: str, size_max: int) -> bytes | None:
    """Return the member that is called as an image's config, None if there is none.

    Its digest is for the caller to check.

    Args:
        parts: the archive as it comes; nothing behind the member is asked for.
        image_id: the image.
        size_max: the bytes that the member may have.

    Raises:
        NoTarError: it is no tar, ends too early, or has a member beyond the bounds.
    """
    hexadecimal = image_id.removeprefix(digest.PREFIX)
    wanted = {f"{hexadecimal}.json".encode(), f"blobs/{digest.ALGORITHM}/{hexadecimal}".encode()}
    stream = _Stream(parts)
    larger: int | None = None
    for _ in range(MEMBERS_MAX):
        header = stream.read(BLOCK_SIZE)
        if not any(header):
            return None
        _check(header)
        kind = header[_TYPE]
        size = _number(header[_SIZE]) if larger is None or kind == _PAX else larger
        larger = None
        if kind == _PAX:
            larger = _pax_size(_bounded(stream, size, PAX_SIZE_MAX))
        elif kind in _REGULAR and header[_NAME].rstrip(b"\0").removeprefix(b"./") in wanted:
            return _bounded(stream, size, size_max)
        else:
            stream.skip(size)
        stream.skip(-size % BLOCK_SIZE)
    raise NoTarError(f"the archive has more than {MEMBERS_MAX} members")


def _bounded(stream: _Stream, size: int, size_max: int) -> bytes:
    if size > size_max:
        raise NoTarError(f"a member has more than {size_max} bytes")
    return stream.read(size)


def _check(header: bytes) -> None:
    """Refuse a header whose sum is not the one it says, counting its own place as spaces."""
    place = header[_CHECKSUM]
    if sum(header) - sum(place) + len(place) * ord(" ") != _number(place):
        raise NoTarError("a header of the archive is damaged")


def _number(field: bytes) -> int:
    """Return a number of a header: octal digits, or binary where its first bit is set."""
    if field[0] & _BINARY:
        number = int.from_bytes(field, "big", signed=False) - (_BINARY << 8 * (len(field) - 1))
        return _sane(number)
    digits = field.strip(b" \0")
    if not all(0x30 <= digit <= 0x37 for digit in digits):
        raise NoTarError("a header of the archive has no number where one belongs")
    return int(digits or b"0", 8)


def _sane(number: int) -> int:
    if number >> 63:
        raise NoTarError("a member of the archive has more bytes than can be")
    return number


def _pax_size(records: bytes) -> int | None:
    """Return the size that a PAX header gives for the next member, None if it gives none."""
    found, at = None, 0
    while at < len(records):
        space = records.find(b" ", at, at + PAX_LENGTH_DIGITS + 1)
        length_text = records[at : max(at, space)]
        if not length_text.isdigit():
            raise NoTarError("a PAX header of the archive makes no sense")
        end = at + int(length_text)
        key, equals, value = records[space + 1 : end].partition(b"=")
        if not equals or value[-1:] != b"\n" or end > len(records):
            raise NoTarError("a PAX header of the archive makes no sense")
        if key == _SIZE_KEY:
            digits = value[:-1]
            if not (digits.isdigit() and len(digits) < SIZE_DIGITS):
                raise NoTarError("a PAX header of the archive gives no size")
            found = _sane(int(digits))
        at = end
    return found
