"""What an attacker, or an accident, may put into the folders of a Docker daemon.

A plant changes one thing in a copy of a real database and says what a sync may make of it:

    same      nothing changes, and the sync ends well
    kept      the same, and the entry is reported: Docker could still take it, so it is not lost
    refused   an error for the whole sync, and nothing changes
    gone      Docker does not list the image any more: it alone is deleted
    there     all images stay; what was noted of the one that was hit may be gone
    bounded   any of these

Outside the database lies a folder with secrets, which the plants' links lead to.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path

MARKER = b"SECRET-8c1f0d"
SPARSE = 10 << 30
METADATA = ("parent", "lastUpdated", "builtLocally")
HOSTILE_NAMES = (
    b"\x1b[2J\x1b]0;owned\x07", b"new\nline", b"\xff\xfe\x80", b"\xe2\x80\xaeevil", b"a" * 255,
    b"\xc2\x9b31m", b"-rf", b"%s%n", b" ", b"..sha256", b"\xf0\x9f\x92\xa9", b"A" * 64, b"0" * 63,
    b"0" * 65, b".tmp-" + b"0" * 64, b"\\", b"*",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A copy of a database in which something is planted.

    Attributes:
        root: the data root that is synced.
        driver: its `image/overlay2`.
        outside: a folder with secrets that belongs to nobody here.
        victim: the digest of the image that is hit; it has all three kinds of metadata.
        layer: the chain id of its topmost layer, without the prefix.
    """

    root: Path
    driver: Path
    outside: Path
    victim: str
    layer: str

    @property
    def content(self) -> Path:
        """Return the victim's config."""
        return self.driver / "imagedb" / "content" / "sha256" / self.victim

    @property
    def metadata(self) -> Path:
        """Return the victim's metadata folder."""
        return self.driver / "imagedb" / "metadata" / "sha256" / self.victim

    @property
    def layer_folder(self) -> Path:
        """Return the folder of the victim's topmost layer."""
        return self.driver / "layerdb" / "sha256" / self.layer


@dataclass(frozen=True)
class Plant:
    """One thing to put there.

    Attributes:
        name: for the report.
        outcome: what a sync may make of it.
        work: puts it there.
        needs: `root` or `nodes` where it cannot be done by everyone.
        as_nobody: whether the sync is then run by a user without rights.
    """

    name: str
    outcome: str
    work: Callable[[Place], None]
    needs: str = ""
    as_nobody: bool = False


def away(path: Path, place: Place) -> Path:
    """Move something out of the tree, where what it holds becomes secret; return where it went."""
    target = place.outside / "moved"
    path.rename(target)
    for file in [target, *target.rglob("*")] if target.is_dir() else []:
        if file.is_file() and file.name == "lastUpdated":
            file.write_text("2001-01-01T00:00:00Z")
    return target


def link_away(pick: Callable[[Place], Path], place: Place, *, relative: bool = False) -> None:
    """Replace something by a link to where it has been moved."""
    path = pick(place)
    target = away(path, place)
    path.symlink_to(os.path.relpath(target, path.parent) if relative else target)


def link_to(pick: Callable[[Place], Path], target: str, place: Place) -> None:
    """Replace a file by a link to some path."""
    path = pick(place)
    path.unlink(missing_ok=True)
    path.symlink_to(target.format(outside=place.outside, itself=path))


def replace(pick: Callable[[Place], Path], make: Callable[[Path], None], place: Place) -> None:
    """Take something out of the tree, and make something else of that name."""
    path = pick(place)
    if os.path.lexists(path):
        away(path, place)
    make(path)


def make_fifo(path: Path) -> None:
    """Make a pipe that nobody writes to."""
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    """Make a socket; its name may be longer than a socket's path."""
    with socket.socket(socket.AF_UNIX) as listener, chdir(path.parent):
        listener.bind(path.name)


def make_device(path: Path) -> None:
    """Make a device that gives zeros for ever."""
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))


def make_sparse(path: Path) -> None:
    """Make a file of ten gigabytes that takes no room."""
    path.touch()
    os.truncate(path, SPARSE)


def make_folder(path: Path) -> None:
    """Make a folder with a file in it."""
    path.mkdir()
    (path / "file").write_bytes(MARKER)


def make_file(path: Path) -> None:
    """Make a file that says nothing of use."""
    path.write_bytes(b"a file\n")


def nothing(place: Place) -> None:
    """Change nothing."""


def content(place: Place) -> Path:
    """Return the victim's config."""
    return place.content


def noted(name: str) -> Callable[[Place], Path]:
    """Return what picks a file of the victim's metadata."""
    return lambda place: place.metadata / name


def in_layer(name: str) -> Callable[[Place], Path]:
    """Return what picks a file of the victim's topmost layer."""
    return lambda place: place.layer_folder / name


def below(*names: str) -> Callable[[Place], Path]:
    """Return what picks a folder of the driver."""
    return lambda place: place.driver.joinpath(*names)


FOLDERS = {
    "content/sha256": below("imagedb", "content", "sha256"),
    "content": below("imagedb", "content"),
    "metadata/sha256": below("imagedb", "metadata", "sha256"),
    "metadata": below("imagedb", "metadata"),
    "imagedb": below("imagedb"),
    "layerdb": below("layerdb"),
    "layerdb/sha256": below("layerdb", "sha256"),
    "overlay2": below(),
    "image": lambda place: place.driver.parent,
}  # fmt: skip


def plants(many: int) -> Iterator[Plant]:
    """Iterate over everything that is planted; `many` is how many junk names are many."""
    yield Plant("nothing", "same", nothing)
    yield from links()
    yield from odd_files()
    yield from exchanged()
    yield from unreadable()
    yield from names()
    yield from masses(many)


def links() -> Iterator[Plant]:
    """Iterate over links in every place."""
    files = {"config": content} | {name: noted(name) for name in METADATA}
    for name, pick in files.items():
        yield Plant(f"{name} a link out", "kept", partial(link_away, pick))
        yield Plant(f"{name} a relative link", "kept", partial(link_away, pick, relative=True))
        for target in (
            "{itself}",
            "/nowhere",
            "/dev/zero",
            "/proc/self/environ",
            "{outside}/secret",
        ):
            yield Plant(f"{name} a link to {target}", "kept", partial(link_to, pick, target))
    yield Plant("metadata folder a link", "kept", partial(link_away, lambda place: place.metadata))
    for name, pick in FOLDERS.items():
        for relative in (False, True):
            work = partial(link_away, pick, relative=relative)
            yield Plant(f"{name} a link, relative {relative}", "refused", work)
    yield Plant("layer folder a link", "refused", partial(link_away, in_layer(".")))
    for name in ("diff", "size", "cache-id", "parent"):
        yield Plant(f"layer {name} a link", "refused", partial(link_away, in_layer(name)))


def odd_files() -> Iterator[Plant]:
    """Iterate over what is no file, or too much of one."""
    makers: tuple[tuple[str, Callable[[Path], None], str], ...] = (
        ("pipe", make_fifo, ""),
        ("socket", make_socket, ""),
        ("device", make_device, "nodes"),
    )
    for kind, make, needs in makers:
        yield Plant(f"config a {kind}", "kept", partial(replace, content, make), needs)
        for name in METADATA:
            yield Plant(f"{name} a {kind}", "kept", partial(replace, noted(name), make), needs)
        for name in ("diff", "size", "cache-id", "parent"):
            work = partial(replace, in_layer(name), make)
            yield Plant(f"layer {name} a {kind}", "refused", work, needs)
        for name, pick in FOLDERS.items():
            yield Plant(f"{name} a {kind}", "refused", partial(replace, pick, make), needs)
    yield Plant("config of 10 GB", "gone", partial(replace, content, make_sparse))
    for name in METADATA:
        yield Plant(f"{name} of 10 GB", "there", partial(replace, noted(name), make_sparse))
    for name in ("diff", "size", "cache-id", "parent"):
        yield Plant(f"layer {name} of 10 GB", "gone", partial(replace, in_layer(name), make_sparse))


def exchanged() -> Iterator[Plant]:
    """Iterate over folders where files should be, and files where folders should be."""
    yield Plant("config a folder", "gone", partial(replace, content, make_folder))
    for name in METADATA:
        yield Plant(f"{name} a folder", "there", partial(replace, noted(name), make_folder))
    for name, pick in FOLDERS.items():
        yield Plant(f"{name} a file", "refused", partial(replace, pick, make_file))
    work = partial(replace, lambda place: place.metadata, make_file)
    yield Plant("metadata folder a file", "there", work)
    yield Plant("layer folder a file", "gone", partial(replace, in_layer("."), make_file))
    yield Plant("config hard linked", "same", hard_link)


def hard_link(place: Place) -> None:
    """Let the config be a file that lies elsewhere too."""
    os.link(place.content, place.outside / "linked")


def unreadable() -> Iterator[Plant]:
    """Iterate over what a user without rights may not read."""
    picks = FOLDERS | {
        "config": content,
        "metadata folder": lambda place: place.metadata,
        "layer folder": in_layer("."),
        "layer diff": in_layer("diff"),
        "layer parent": in_layer("parent"),
    }
    picks |= {name: noted(name) for name in METADATA}
    yield Plant("nothing, as nobody", "same", nothing, "root", as_nobody=True)
    for name, pick in picks.items():
        work = partial(forbid, pick)
        yield Plant(f"{name} unreadable", "refused", work, "root", as_nobody=True)


def forbid(pick: Callable[[Place], Path], place: Place) -> None:
    """Take all rights away."""
    pick(place).chmod(0)


def names() -> Iterator[Plant]:
    """Iterate over names that nobody expects, wherever there are names."""
    folders: dict[str, Callable[[Place], Path]] = {
        "configs": below("imagedb", "content", "sha256"),
        "metadata folders": below("imagedb", "metadata", "sha256"),
        "metadata": lambda place: place.metadata,
        "layers": below("layerdb", "sha256"),
        "drivers": lambda place: place.driver.parent,
        "the data root": lambda place: place.root,
    }
    for name, pick in folders.items():
        yield Plant(f"odd names among {name}", "same", partial(odd_names, pick))
    for name in METADATA:
        yield Plant(f"{name} in wrong case", "there", partial(wrong_case, noted(name)))
    yield Plant("config in wrong case", "gone", partial(wrong_case, content))


def odd_names(pick: Callable[[Place], Path], place: Place) -> None:
    """Make files of all kinds of names."""
    for name in HOSTILE_NAMES:
        with open(os.fsencode(pick(place)) + b"/" + name, "wb") as file:
            file.write(MARKER)


def wrong_case(pick: Callable[[Place], Path], place: Place) -> None:
    """Let a name be in the other case."""
    path = pick(place)
    path.rename(path.with_name(path.name.swapcase()))


def masses(many: int) -> Iterator[Plant]:
    """Iterate over what is only too many."""
    for name in ("content", "metadata"):
        work = partial(crowd, below("imagedb", name), many)
        yield Plant(f"{many} files in {name}", "same", work)
    yield Plant("1,000 configs of 10 GB", "same", sparse_crowd)


def crowd(pick: Callable[[Place], Path], many: int, place: Place) -> None:
    """Make as many files as nobody has; hard links are the fastest."""
    folder = pick(place) / "sha256"
    first = folder / "junk"
    first.touch()
    for number in range(many):
        # A file has some 65,000 names at most.
        if number % 50_000 == 0:
            first = folder / f"junk-{number}"
            first.touch()
        os.link(first, folder / f"junk {number} \x1b[31m")


def sparse_crowd(place: Place) -> None:
    """Make many large files under names of configs."""
    for number in range(1000):
        make_sparse(place.content.with_name(f"{number:064x}"))
