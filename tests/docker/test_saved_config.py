"""Find a config in what `docker save` streams, and in streams that are no such thing."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest

from docker_stand_in import exported, tar
from eventstore.sources.saved_config import NoTarError, find
from making import config, id_of

A = config("a")
SIZE_MAX = 1 << 24
MEMBER = f"blobs/sha256/{id_of(A)[7:]}"


def parts(raw: bytes, size: int) -> Iterator[bytes]:
    """Iterate over some bytes in parts."""
    return (raw[start : start + size] for start in range(0, len(raw), size))


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("size", [1, 7, 512, 513, 1 << 20])
def test_both_forms_are_found_however_the_stream_is_cut(old: bool, size: int) -> None:
    """The bytes are the config's, to the last one."""
    archive = exported(id_of(A), A, old=old, layer_size=2000)
    assert find(parts(archive, size), id_of(A), SIZE_MAX) == A


def test_nothing_behind_the_member_is_asked_for() -> None:
    """So the daemon can stop."""

    def stream() -> Iterator[bytes]:
        yield tar({MEMBER: A})[: 512 + len(A)]
        raise AssertionError("asked for more")

    assert find(stream(), id_of(A), SIZE_MAX) == A


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_and_other_headers_before_it_are_skipped(form: int) -> None:
    """PAX headers, GNU's long names, links, folders: none of them is the config."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        long_name = tarfile.TarInfo("x" * (90 if form == tarfile.USTAR_FORMAT else 300))
        long_name.size = 10
        if form == tarfile.PAX_FORMAT:
            long_name.pax_headers = {"comment": "é" * 500, "size": "10"}
        archive.addfile(long_name, io.BytesIO(b"0123456789"))
        for kind in (tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            other = tarfile.TarInfo(MEMBER)
            other.type, other.linkname = kind, "/etc/passwd"
            archive.addfile(other)
        found = tarfile.TarInfo(f"./{MEMBER}")
        found.size = len(A)
        archive.addfile(found, io.BytesIO(A))
    assert find([packed.getvalue()], id_of(A), SIZE_MAX) == A


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """Return a header with whatever size, and a sum that is right."""
    made = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    made[124:136], made[156:157] = size, kind
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def pax(record: bytes) -> bytes:
    """Return a PAX header with what may be records."""
    return header("pax", b"%011o\0" % len(record), b"x") + record.ljust(
        -(-len(record) // 512) * 512
    )


@pytest.mark.parametrize("size", [b"%011o\0" % 1024, b"\x80" + bytes(9) + b"\x04\x00"])
def test_the_size_of_a_large_layer_stands_in_one_of_three_places(size: bytes) -> None:
    """Octal, binary, or in a PAX header, which then counts."""
    assert find([header("layer", size) + bytes(1024) + REST], id_of(A), SIZE_MAX) == A
    large = pax(b"13 size=1024\n") + header("layer", b"%011o\0" % 0) + bytes(1024)
    assert find([large + REST], id_of(A), SIZE_MAX) == A


REST = header(MEMBER, b"%011o\0" % len(A)) + A
BAD = {
    "nothing": b"",
    "half a header": bytes(100),
    "text": b"a" * 1024,
    "a wrong sum": header("layer", b"%011o\0" % 0)[:-1] + b"x",
    "no number": header("layer", b"eighty-eight"),
    "a negative number": header("layer", b"\xff" * 12),
    "more than can be": header("layer", b"\x80" + b"\xff" * 11),
    "cut short": header("layer", b"%011o\0" % 5000) + bytes(100),
    "a PAX header without end": header("pax", b"%011o\0" % (1 << 30), b"x"),
    "a PAX record of no length": pax(b"0 a=b\n") + REST,
    "a PAX record that is too long": pax(b"99 a=b\n") + REST,
    "a PAX record without a space": pax(b"1" * 512) + REST,
    "a PAX record without a value": pax(b"6 abc\n") + REST,
    "a PAX size that is none": pax(b"11 size=ab\n") + REST,
    "a PAX size beyond all": pax(b"40 size=" + b"9" * 31 + b"\n") + REST,
    "a config that is too large": header(MEMBER, b"%011o\0" % (SIZE_MAX + 1)),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_tar_is_one_kind_of_error(case: str) -> None:
    """Whatever the bytes; and nothing large is read for it."""
    with pytest.raises(NoTarError):
        find([BAD[case]], id_of(A), SIZE_MAX)


def test_a_pax_header_of_many_records_takes_no_longer_than_it_is_long() -> None:
    """A mebibyte of the shortest records is read in a moment."""
    records = b"4 =\n" * (1 << 18)
    archive = pax(records) + header(MEMBER, b"%011o\0" % len(A)) + A
    assert find([archive], id_of(A), SIZE_MAX) == A


def test_an_archive_without_the_member_gives_none() -> None:
    """It ends with a block of zeros."""
    assert find([tar({"other": b"x"})], id_of(A), SIZE_MAX) is None


@pytest.mark.parametrize("at", range(0, 512, 3))
def test_a_header_that_is_flipped_anywhere_gives_an_error_or_nothing_else(at: int) -> None:
    """The sum covers every byte."""
    archive = bytearray(tar({MEMBER: A}))
    archive[at] ^= 0x41
    with pytest.raises(NoTarError):
        find([bytes(archive)], id_of(A), SIZE_MAX)
