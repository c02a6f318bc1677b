"""Read the pages of a data file without LMDB, however damaged they are.

LMDB trusts what it maps: a bent page can make it answer wrongly, or end the process. Here the file
is read page by page with `pread`, nothing is mapped, and every number found is checked before it
is used; so this can neither crash nor loop, and what cannot be read is `None`. The layout of
LMDB 0.9, 64 bits, in the byte order of the machine::

    page     number u64, pad u16, flags u16, then lower u16 and upper u16, or pages u32
    branch   from byte 16: offsets of nodes, u16; a node: child u48, key length u16, key
    leaf     from byte 16: offsets of nodes, u16; a node: size u32, flags u16, key length u16, key,
             then the value, or the number of the first page of an overflow run that holds it
    meta     pages 0 and 1, from byte 16: magic u32, version u32, address u64, map size u64, the
             trees of free pages and of databases, last page u64, commit number u64

Commit N writes meta page N mod 2, and the newest sound one counts. That is how a single damaged
bit can take the last commit away unseen. `head_fault` tells it: it compares the two meta pages,
the list of free pages (whose last entry bears the number of the commit that wrote it), and the
counts of pages. It reads few pages, so that every open can afford it. One bit is left: where commit
N calls itself N - 2, that is also what a commit that the disk refused leaves behind.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from eventstore import store_files
from eventstore.errors import CorruptionError, refused

MAGIC, VERSION = 0xBEEFC0DE, 1
HEADER_SIZE, METAS, DEPTH_MAX = 16, 2, 32
BRANCH, LEAF, OVERFLOW, META = 0x01, 0x02, 0x04, 0x08
IN_OVERFLOW, IS_TREE = 0x01, 0x02
NO_PAGE = (1 << 64) - 1
PAGE_SIZES = (4096, 8192, 16384, 32768, 2048, 1024, 512)
VALUE_SIZE_MAX = 1 << 26
_OVERFLOW_RUN_MAX = 1 << 15
_ATTEMPTS = 20
HEADER = struct.Struct("=QHHHH")
NODE = struct.Struct("=HHHH")
_TREE = struct.Struct("=IHHQQQQQ")
_META = struct.Struct("=IIQQ")
_END = struct.Struct("=QQ")
_META_SIZE = HEADER_SIZE + _META.size + 2 * _TREE.size + _END.size


class Tree(Struct, frozen=True):
    """What is noted of a B-tree where it is rooted."""

    pad: int
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int

    @property
    def pages(self) -> int:
        """Return the number of pages that belong to it."""
        return self.branch_pages + self.leaf_pages + self.overflow_pages


class Meta(Struct, frozen=True):
    """What a meta page says, sound or not."""

    slot: int
    number: int
    page_flags: int
    magic: int
    version: int
    free: Tree
    main: Tree
    last_page: int
    commit: int

    @property
    def page_size(self) -> int:
        """Return the size of a page, which LMDB keeps with the tree of free pages."""
        return self.free.pad

    def fault(self, page_size: int) -> str | None:
        """Return what is wrong with the meta page itself, None if nothing is."""
        for wrong, what in (
            (self.magic != MAGIC, "magic number"),
            (self.version != VERSION, "version"),
            (self.page_flags != META, "flags"),
            (self.number != self.slot, "page number"),
            (self.page_size != page_size, "page size"),
            (self.commit & 1 != self.slot and self.commit != 0, "commit number"),
        ):
            if wrong:
                return f"meta page {self.slot} is damaged: its {what} is not what was written"
        return None


class Node(Struct, frozen=True):
    """An entry of a leaf: where it begins, its key, its flags, and where its value lies."""

    start: int
    key: bytes
    flags: int
    size: int
    offset: int


class PageFile:
    """A data file, opened for reading only."""

    def __init__(self, path: Path) -> None:
        """Open the data file at `path`.

        Raises:
            StoreIOError: the operating system refuses.
            CorruptionError: it is too short to be one.
        """
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise refused(str(path.parent), error) from error
        try:
            self.page_size = self._find_page_size()
            self._measure()
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        os.close(self._handle)

    def _read(self, offset: int, length: int) -> bytes:
        """Read some bytes; fewer, or none, where the file ends or the disk fails."""
        try:
            return os.pread(self._handle, length, offset)
        except (OSError, OverflowError):
            return b""

    def _find_page_size(self) -> int:
        """Return the page size that the meta pages agree on, or the likeliest."""
        first = self._meta(0, 0)
        said = first.page_size if first is not None else 0
        sizes = [said, *PAGE_SIZES] if said in PAGE_SIZES else list(PAGE_SIZES)
        for size in sizes:
            second = self._meta(1, size)
            if second is not None and second.magic == MAGIC and second.page_size == size:
                return size
        return sizes[0]

    def _meta(self, slot: int, page_size: int) -> Meta | None:
        raw = self._read(slot * page_size, _META_SIZE)
        if len(raw) < _META_SIZE:
            return None
        number, _, flags, _, _ = HEADER.unpack_from(raw)
        magic, version, _, _ = _META.unpack_from(raw, HEADER_SIZE)
        at = HEADER_SIZE + _META.size
        free, main = tree_of(raw, at), tree_of(raw, at + _TREE.size)
        last_page, commit = _END.unpack_from(raw, at + 2 * _TREE.size)
        return Meta(slot, number, flags, magic, version, free, main, last_page, commit)

    def _measure(self) -> None:
        """Note how many bytes and pages the file has.

        Raises:
            StoreIOError: the operating system refuses.
        """
        try:
            self.size = os.fstat(self._handle).st_size
        except OSError as error:
            raise refused(str(self.path.parent), error) from error
        self.pages = self.size // self.page_size

    def metas(self) -> list[Meta]:
        """Return what the meta pages say now, those that are there.

        The file is measured anew after that: a commit makes it longer before it says so, and held
        against a length from before, a sound file would look cut short.
        """
        found = [self._meta(slot, self.page_size) for slot in range(METAS)]
        self._measure()
        return [meta for meta in found if meta is not None]

    def page(self, number: int) -> bytes | None:
        """Return a whole page, None if it is not there."""
        if not 0 <= number < self.pages:
            return None
        raw = self._read(number * self.page_size, self.page_size)
        return raw if len(raw) == self.page_size else None

    def value(self, raw: bytes, node: Node) -> bytes | None:
        """Return the value of an entry of the page `raw`, None if it is not there."""
        if node.size > VALUE_SIZE_MAX:
            return None
        if not node.flags & IN_OVERFLOW:
            return raw[node.offset : node.offset + node.size]
        number = int.from_bytes(raw[node.offset : node.offset + 8], sys.byteorder)
        if number >= self.pages:
            return None
        found = self._read(number * self.page_size + HEADER_SIZE, node.size)
        return found if len(found) == node.size else None

    def run(self, raw: bytes, node: Node) -> range:
        """Return the numbers of the overflow pages that hold an entry's value, if any do."""
        if not node.flags & IN_OVERFLOW:
            return range(0)
        number = int.from_bytes(raw[node.offset : node.offset + 8], sys.byteorder)
        length = (HEADER_SIZE - 1 + node.size) // self.page_size + 1
        return range(number, min(number + length, self.pages))

    def leaves(self, tree: Tree, name: str, faults: list[str]) -> Iterator[tuple[int, bytes]]:
        """Iterate over the leaves of a tree in order, as far as they can be reached.

        Args:
            tree: where it is rooted.
            name: what faults call it.
            faults: gets what is wrong.
        """
        if tree.root == NO_PAGE:
            if tree.entries or tree.depth or tree.pages:
                faults.append(f"{name} has no root, and {tree.entries} entries")
            return
        visited = set[int]()
        waiting = [(tree.root, 1)]
        while waiting:
            number, depth = waiting.pop()
            raw = None if number in visited or number < METAS else self.page(number)
            visited.add(number)
            if raw is None:
                faults.append(f"{name} leads to page {number}, which it may not or is not there")
                continue
            said, _, flags, _, _ = HEADER.unpack_from(raw)
            if said != number:
                faults.append(f"page {number} of {name} says that it is page {said}")
            if flags == LEAF:
                if depth != tree.depth:
                    faults.append(f"page {number} of {name} is a leaf at depth {depth}")
                yield number, raw
            elif flags == BRANCH and depth < min(tree.depth, DEPTH_MAX):
                below = list(children(raw))
                if not below:
                    faults.append(f"page {number} of {name} leads nowhere")
                waiting += [(child, depth + 1) for child in reversed(below)]
            else:
                faults.append(f"page {number} of {name} is no page of a tree: flags {flags:#x}")

    def trees(self, meta: Meta, faults: list[str]) -> dict[bytes, Tree]:
        """Return the databases that a meta page leads to, by name."""
        found: dict[bytes, Tree] = {}
        for _, raw in self.leaves(meta.main, "the list of databases", faults):
            for node in nodes(raw):
                value = self.value(raw, node)
                if node.flags == IS_TREE and value is not None and len(value) == _TREE.size:
                    found[node.key] = tree_of(value, 0)
        return found

    def free_pages(self, meta: Meta, faults: list[str]) -> tuple[int, set[int]]:
        """Return the newest commit that freed pages, 0 for none, and all free pages."""
        newest, found = 0, set[int]()
        for _, raw in self.leaves(meta.free, "the list of free pages", faults):
            for node in nodes(raw):
                value = self.value(raw, node)
                if value is None or len(node.key) != 8 or len(value) % 8 or not value:
                    faults.append("an entry of the list of free pages is damaged")
                    continue
                newest = max(newest, int.from_bytes(node.key, sys.byteorder))
                numbers = array("Q", value)
                found.update(numbers[1:])
                if numbers[0] != len(numbers) - 1:
                    faults.append("an entry of the list of free pages has another length")
        return newest, found

    def stray_leaves(self, known: set[int]) -> Iterator[tuple[int, bytes]]:
        """Iterate over all pages that look like leaves, whether anything leads to them or not.

        Args:
            known: pages not to look at: known to hold something else, or looked at already.
        """
        number = METAS
        while number < self.pages:
            raw = None if number in known else self.page(number)
            if raw is not None:
                said, _, flags, lower, upper = HEADER.unpack_from(raw)
                if flags == OVERFLOW and said == number:
                    length = lower | upper << 16
                    # What lies in an overflow run is whatever a user stored, also leaves.
                    number += length if 0 < length < _OVERFLOW_RUN_MAX else 1
                    continue
                if flags & LEAF or said == number:
                    yield number, raw
            number += 1


def tree_of(raw: bytes, offset: int) -> Tree:
    """Return the tree that is noted at an offset."""
    return Tree(*_TREE.unpack_from(raw, offset))


def _offsets(raw: bytes) -> Iterator[int]:
    """Iterate over the offsets of the nodes of a page, those that lie in it."""
    _, _, _, lower, upper = HEADER.unpack_from(raw)
    if not HEADER_SIZE <= lower <= upper <= len(raw):
        lower = len(raw)  # damaged: go on as long as it makes sense
    end = min(lower, len(raw))
    at = HEADER_SIZE
    while at + 2 <= end:
        offset = int.from_bytes(raw[at : at + 2], sys.byteorder)
        at += 2
        if at <= offset <= len(raw) - NODE.size:
            if lower == len(raw):
                end = min(end, offset)
            yield offset


def nodes(raw: bytes) -> Iterator[Node]:
    """Iterate over the entries of a leaf that lie within it."""
    for offset in _offsets(raw):
        node = node_at(raw, offset)
        if node is not None:
            yield node


def node_at(raw: bytes, offset: int) -> Node | None:
    """Return the entry of a leaf at an offset, None if it does not lie within it."""
    low, high, flags, length = NODE.unpack_from(raw, offset)
    start = offset + NODE.size
    size = low | high << 16
    taken = 8 if flags & IN_OVERFLOW else size
    if start + length + taken > len(raw):
        return None
    return Node(offset, raw[start : start + length], flags, size, start + length)


def children(raw: bytes) -> Iterator[int]:
    """Iterate over the pages that a branch leads to."""
    for offset in _offsets(raw):
        low, high, flags, _ = NODE.unpack_from(raw, offset)
        yield low | high << 16 | flags << 32


def head_fault(pages: PageFile, databases: Collection[str]) -> str | None:
    """Return why the newest commit cannot be trusted to be the newest, None if it can.

    Args:
        pages: the file.
        databases: the names of a store's; a file without them is for others to refuse.
    """
    metas = pages.metas()
    if len(metas) < METAS:
        return f"it is cut short: its data has {pages.size} bytes"
    for meta in metas:
        fault = meta.fault(pages.page_size)
        if fault is not None:
            return fault
    first, second = metas
    if abs(first.commit - second.commit) != 1 and first.commit | second.commit:
        return f"its meta pages are of commits {first.commit} and {second.commit}"
    newest = first if first.commit > second.commit else second
    return tree_fault(pages, newest, databases)


def tree_fault(pages: PageFile, meta: Meta, databases: Collection[str]) -> str | None:
    """Return what is wrong with the trees that a meta page leads to, near their roots."""
    faults: list[str] = []
    newest, free = pages.free_pages(meta, faults)
    # A page that a commit took and gave up again was never written: the file may end before it.
    end = meta.last_page + 1
    if end - pages.pages > len(free) or not free.issuperset(range(pages.pages, end)):
        needed = end * pages.page_size
        return f"it is cut short: its data has {pages.size} bytes and needs {needed}"
    trees = pages.trees(meta, faults)
    if not faults and not any(name.encode() in trees for name in databases):
        return None
    if newest != meta.commit and (newest or meta.commit > 1):
        faults.append(f"commit {meta.commit} ends with the list of free pages of {newest}")
    listed = sum(len(list(nodes(raw))) for _, raw in pages.leaves(meta.main, "", []))
    if listed != meta.main.entries:
        faults.append(f"the list of databases has {listed} entries of {meta.main.entries}")
    everything = [meta.free, meta.main, *trees.values()]
    if meta.main.flags or meta.main.pad:
        faults.append(f"the list of databases is of another kind: {meta.main.flags:#x}")
    for name, tree in trees.items():
        raw = pages.page(tree.root)
        said, flags = (0, 0) if raw is None else HEADER.unpack_from(raw)[0:3:2]
        expected = LEAF if tree.depth == 1 else BRANCH
        if tree.root != NO_PAGE and (said, flags) != (tree.root, expected):
            faults.append(f"the database {name!r} does not begin at page {tree.root}")
        if tree.flags or tree.pad:
            faults.append(f"the database {name!r} is of another kind: {tree.flags:#x}")
    if any(tree.root in free for tree in everything):
        faults.append("a database begins at a page that is free")
    counted = sum(tree.pages for tree in everything) + len(free) + METAS
    if counted != meta.last_page + 1:
        faults.append(f"it counts {counted} pages of {meta.last_page + 1}")
    return faults[0] if faults else None


def refuse_damaged_heads(path: Path, databases: Collection[str]) -> None:
    """Refuse a store whose newest commit cannot be told, before LMDB takes an older one for it.

    While others commit without a pause nothing can be told, and nothing is: what they go on from
    is sound, or they would not.

    Args:
        path: the store's directory.
        databases: the names of a store's.

    Raises:
        CorruptionError: the meta pages or the roots of the trees are damaged.
        StoreIOError: the operating system refuses.
    """
    for _ in range(_ATTEMPTS):
        with PageFile(path / store_files.DATA) as pages:
            before = pages.metas()
            fault = head_fault(pages, databases)
            if fault is None:
                return
            if pages.metas() == before:
                raise CorruptionError(f"{path}: {fault}")
