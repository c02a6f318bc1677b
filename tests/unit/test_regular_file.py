"""Read files whose size is not what they hold, and names that stopped being what they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventstore.regular_file import Folder, IrregularFileError

OWN = Path("/proc/self")


def opened(path: Path) -> Folder:
    """Return a folder that is there."""
    found = Folder.open(path)
    assert found is not None
    return found


@pytest.mark.skipif(not OWN.exists(), reason="there are no files here whose size is said to be 0")
def test_a_file_that_holds_more_than_its_size_says_is_read_to_its_end() -> None:
    """The size is asked for to bound what is read, not to say where a file ends."""
    with opened(OWN) as folder:
        content = folder.read("maps", 1 << 24)
        assert content is not None
        assert len(content) > 4096
        assert content.endswith(b"\n")
        with pytest.raises(IrregularFileError) as caught:
            folder.read("maps", 100)
    assert caught.value.kind == "too-large"


@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_a_file_is_read_whole_up_to_the_bytes_that_it_may_have(tmp_path: Path, size: int) -> None:
    """One byte more than the limit is not read at all."""
    tmp_path.joinpath("file").write_bytes(b"x" * size)
    tmp_path.joinpath("larger").write_bytes(b"x" * 101)
    with opened(tmp_path) as folder:
        assert folder.read("file", 100) == b"x" * size
        for regular in (False, True):
            with pytest.raises(IrregularFileError) as caught:
                folder.read("larger", 100, regular=regular)
            assert caught.value.kind == "too-large"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "nothing"])
def test_what_a_listing_told_is_held_against_what_is_there_when_it_is_read(
    tmp_path: Path, kind: str
) -> None:
    """A name may have changed hands since: nothing but a regular file is read."""
    path = tmp_path / "file"
    path.write_bytes(b"as it was listed")
    with opened(tmp_path) as folder:
        assert folder.entries() == {"file": True}
        path.unlink()
        if kind == "link":
            path.symlink_to("/etc/hostname")
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        if kind == "nothing":
            assert folder.read("file", 100, regular=True) is None
            return
        assert folder.entries() == {"file": False}
        with pytest.raises(IrregularFileError) as caught:
            folder.read("file", 100, regular=True)
    assert caught.value.kind == "not-a-file"
    assert caught.value.unsure == (kind != "folder")


def test_a_folder_that_is_to_be_listed_is_found_as_any_other(tmp_path: Path) -> None:
    """No link is followed to it, and what is no folder is none."""
    tmp_path.joinpath("a").mkdir()
    tmp_path.joinpath("a", "file").write_bytes(b"1")
    tmp_path.joinpath("link").symlink_to("a")
    tmp_path.joinpath("file").write_bytes(b"1")
    with opened(tmp_path) as folder:
        assert folder.below_to_list("none") is None
        for name in ("link", "file"):
            with pytest.raises(IrregularFileError) as caught:
                folder.below_to_list(name)
            assert caught.value.kind == "not-a-file"
        found = folder.below_to_list("a")
        assert found is not None
        with found:
            assert found.path == tmp_path / "a"
            assert (found.names(), found.read("file", 10)) == (["file"], b"1")
