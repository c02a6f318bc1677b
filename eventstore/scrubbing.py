"""Destroy what nothing refers to any more, so that no byte of what was redacted is left.

LMDB never writes over what it gives up. Old bytes stay in free pages, in the pages of the commit
before the newest, in the room that a page has left between its index and its entries (which may
hold a piece of any other page, for memory is used again as it is), behind the value in its overflow
pages, and behind the last page that is in use. After a redaction, and after a compaction, all that
is made zero. Keys of the database `meta`::

    redacted      the position of the last redaction, noted as in log
    erased        the horizon of the last compaction that has dropped all that it was to drop
    unscrubbed    either of them, for as long as its bytes have not been destroyed

How it is done. The commit of the redaction, or the last one that drops, writes the note. Who has
written to the file before it has pieces of its pages in memory, and lets go of them before it
writes again (see `Environment`). One more commit makes both meta pages lead to trees without what
is to be destroyed. Then, with the write
lock held and no reader left that sees an older commit, every page that either tree leads to is
found, and zero is written where nothing lies. A sync, and a commit that takes `unscrubbed` away.

What is in use is written by nobody, so a process that is killed at any point leaves a sound store,
and `unscrubbed`; the next `redact` or open for writing begins anew. A disk that tears a write
leaves each sector old or new, and both have the same bytes where something lies. A file whose
structure is not sound is not touched. LMDB fills entries up to an even length by a byte, which may
be an old one; that is left. All this is of the files of the store: backups, copies of the file,
and what a disk keeps of sectors that it has replaced are the operator's to destroy. Pages that
`salvage` could have looked through for lost records are zero from then on.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Iterator

from eventstore import configs, lmdb_pages, log, store_files
from eventstore.errors import CorruptionError, ErasureUnfinishedError, refused
from eventstore.lmdb_env import DATABASES, LAST_DROP, LAST_REDACTION, Environment, WriteSession
from eventstore.lmdb_pages import BRANCH, HEADER_SIZE, LEAF, METAS, NO_PAGE, Meta, PageFile, Tree
from eventstore.lmdb_transaction import Transaction

READERS_WAIT_SECONDS = 10.0
_HOLD_SECONDS, _POLL_SECONDS = 0.5, 0.01
_UNSCRUBBED = b"unscrubbed"
_META = "meta"
_PIECE_SIZE = 1 << 20
_SALVAGED = ("salvaged", "configs")  # see salvage


def note(txn: Transaction, position: int) -> None:
    """Note that the record at a position redacts a config, whose bytes must be destroyed."""
    for key in (LAST_REDACTION, _UNSCRUBBED):
        txn.put(_META, key, log.pack_note(key, position), replace=True)


def note_dropped(txn: Transaction, through: int) -> None:
    """Note that the last of what only the past before a position needs was dropped."""
    for key in (LAST_DROP, _UNSCRUBBED):
        txn.put(_META, key, log.pack_note(key, through), replace=True)


def is_due(txn: Transaction) -> bool:
    """Tell whether there are bytes that are still to be destroyed."""
    return txn.get(_META, _UNSCRUBBED) is not None


def is_any_redacted(txn: Transaction) -> bool:
    """Tell whether the config of any image was ever redacted."""
    return txn.get(_META, LAST_REDACTION) is not None


def last_redaction(txn: Transaction) -> int:
    """Return the position that is noted as that of the last redaction, 0 for none.

    Raises:
        CorruptionError: the note is damaged.
    """
    value = txn.get(_META, LAST_REDACTION)
    if value is None:
        return 0
    return log.unpack_note(LAST_REDACTION, value, "the note of the last redaction")


def finish(environment: Environment, *, wait: float | None = None) -> None:
    """Destroy the bytes of what was redacted or dropped, if that is still to be done.

    When this returns, the bytes are nowhere in the store's files.

    Args:
        environment: the store's, open for writing.
        wait: how many seconds to wait for readers that began before; some if not given.

    Raises:
        ErasureUnfinishedError: a reader did not end in time; nothing was destroyed.
        CorruptionError: the structure of the file is not sound; nothing was destroyed.
        StoreIOError: the operating system refuses.
    """
    with environment.read() as txn:
        due = txn.get(_META, _UNSCRUBBED)
    if due is None:
        return
    environment.write(_note_again)
    limit = time.monotonic() + (READERS_WAIT_SECONDS if wait is None else wait)
    while True:
        session = environment.begin_write()
        try:
            due = session.transaction.get(_META, _UNSCRUBBED)
            old = _wait_for_readers(environment, session.number, limit)
            if not old:
                _scrub(environment, session)
        finally:
            session.abort()
        if not old:
            break
        if time.monotonic() >= limit:
            raise ErasureUnfinishedError(str(environment.path), sorted(old))
        time.sleep(_POLL_SECONDS)
    environment.write(lambda txn: _note_done(txn, due))


def _note_again(txn: Transaction) -> None:
    """Write the note once more, so that the commit before this one is not the newest."""
    due = txn.get(_META, _UNSCRUBBED)
    if due is not None:
        txn.put(_META, _UNSCRUBBED, due, replace=True)


def _note_done(txn: Transaction, done: bytes | None) -> None:
    """Take away the note that bytes must be destroyed, unless another redaction has renewed it."""
    if done is not None and txn.get(_META, _UNSCRUBBED) == done:
        txn.delete(_META, _UNSCRUBBED)


def _wait_for_readers(environment: Environment, number: int, limit: float) -> set[int]:
    """Return the processes that read what neither meta page leads to, when some time is over.

    Args:
        environment: the store's.
        number: of the commit that the open write transaction would be; so no other begins.
        limit: when to stop in any case.
    """
    hold = min(time.monotonic() + _HOLD_SECONDS, limit)
    while True:
        old = {process for process, commit in environment.readers() if commit < number - METAS}
        if not old or time.monotonic() >= hold:
            return old
        time.sleep(_POLL_SECONDS)


def _scrub(environment: Environment, session: WriteSession) -> None:
    """Write zero wherever nothing lies that the newest two commits lead to; sync that."""
    _destroy_salvaged(environment, session.transaction)
    data = environment.path / store_files.DATA
    environment.refuse_lost()
    with PageFile(data) as pages:
        metas = sorted(pages.metas(), key=lambda meta: meta.commit, reverse=True)
        fault = lmdb_pages.head_fault(pages, DATABASES)
        if fault is not None or metas[0].commit != session.number - 1:
            raise CorruptionError(f"{environment.path}: {fault or 'its newest commit is another'}")
        ranges = _Unused(pages, metas).ranges()
        try:
            handle = os.open(data, os.O_RDWR | os.O_CLOEXEC)
            try:
                for start, end in ranges:
                    _zero(handle, start, end)
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise refused(str(environment.path), error) from error


def _zero(handle: int, start: int, end: int) -> None:
    """Make a part of a file zero, where it is not; a part that cannot be read is written as well.

    Args:
        handle: the file.
        start: the first byte.
        end: the byte behind the last.
    """
    while start < end:
        length = min(end - start, _PIECE_SIZE)
        if os.pread(handle, length, start).strip(b"\0"):
            written = os.pwrite(handle, bytes(length), start)
            length = written
        start += length


class _Unused:
    """Finds the bytes of a data file that nothing refers to, from two commits."""

    def __init__(self, pages: PageFile, metas: list[Meta]) -> None:
        """Walk the trees of the commits, the newest first.

        Raises:
            CorruptionError: the file's structure is not sound.
        """
        self._pages = pages
        self._used = bytearray(pages.pages)
        self._gaps: list[tuple[int, int]] = []
        for meta in metas:
            self._walk_all(meta, whole=meta is metas[0])

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Iterate over what is unused, as first byte and byte behind the last."""
        size, end = self._pages.page_size, len(self._used)
        number = METAS
        while number < end:
            stop = number
            while stop < end and not self._used[stop]:
                stop += 1
            if stop > number:
                yield number * size, stop * size
            number = stop + 1
        yield end * size, self._pages.size
        yield from self._gaps

    def _refuse(self, what: str) -> CorruptionError:
        return CorruptionError(f"{self._pages.path.parent}: nothing was destroyed, for {what}")

    def _walk_all(self, meta: Meta, *, whole: bool) -> None:
        """Find the pages of a commit; those of the newest must be all that are in use."""
        faults: list[str] = []
        trees = [meta.free, meta.main, *self._pages.trees(meta, faults).values()]
        _, free = self._pages.free_pages(meta, faults)
        if faults:
            raise self._refuse(faults[0])
        for tree in trees:
            found = self._walk(tree)
            if whole and found != tree.pages:
                raise self._refuse(f"{found} pages of a tree are there, and {tree.pages} noted")
        if not whole:
            return
        # Of those that are free the last may never have been written: the file ends before them.
        if any(not METAS <= number <= meta.last_page for number in free) or any(
            self._used[number] for number in free if number < len(self._used)
        ):
            raise self._refuse("a page is free and in use")

    def _walk(self, tree: Tree) -> int:
        """Find the pages of a tree that were not found before; return how many they are."""
        found = 0
        waiting = [] if tree.root == NO_PAGE else [tree.root]
        while waiting:
            number = waiting.pop()
            if METAS <= number < len(self._used) and self._used[number]:
                continue  # of the newer commit as well, and so is all below it
            raw = self._pages.page(number)
            said, _, flags, lower, upper = lmdb_pages.HEADER.unpack_from(raw or bytes(HEADER_SIZE))
            if raw is None or number < METAS or said != number or flags not in (BRANCH, LEAF):
                raise self._refuse(f"page {number} is no page of a tree")
            self._use(number, 1)
            found += 1
            if not _is_ordered(raw, flags, lower, upper):
                raise self._refuse(f"page {number} has no order")
            start = number * len(raw)
            self._add_gap(start + lower, start + upper)
            if flags == BRANCH:
                waiting += lmdb_pages.children(raw)
            elif tree.overflow_pages:
                found += sum(self._take_run(raw, node) for node in lmdb_pages.nodes(raw))
        return found

    def _take_run(self, raw: bytes, node: lmdb_pages.Node) -> int:
        """Find the pages that hold the value of an entry elsewhere; return how many they are."""
        run = self._pages.run(raw, node)
        if not run:
            return 0
        head = self._pages.page(run.start)
        if head is None or run.start < METAS:
            raise self._refuse(f"page {run.start} is not there")
        said, _, flags, low, high = lmdb_pages.HEADER.unpack_from(head)
        length = int(low | high << 16)
        if said != run.start or flags != lmdb_pages.OVERFLOW or length < len(run):
            raise self._refuse(f"page {run.start} does not begin a value")
        if self._used[run.start]:
            return 0
        self._use(run.start, length)
        start = run.start * len(raw)
        self._add_gap(start + HEADER_SIZE + node.size, start + length * len(raw))
        return length

    def _use(self, first: int, length: int) -> None:
        """Note that pages are in use."""
        if first + length > len(self._used) or any(self._used[first : first + length]):
            raise self._refuse(f"page {first} is used twice")
        self._used[first : first + length] = b"\1" * length

    def _add_gap(self, start: int, end: int) -> None:
        if start < end:
            self._gaps.append((start, end))


def _is_ordered(raw: bytes, flags: int, lower: int, upper: int) -> bool:
    """Tell whether the entries of a page fill it from `upper` on, and its index goes to `lower`."""
    if not HEADER_SIZE <= lower <= upper <= len(raw) or lower & 1:
        return False
    taken, last = 0, len(raw) - lmdb_pages.NODE.size
    unpack = lmdb_pages.NODE.unpack_from
    for offset in array("H", raw[HEADER_SIZE:lower]):
        if not upper <= offset <= last:
            return False
        low, high, node_flags, length = unpack(raw, offset)
        if flags == LEAF:
            length += 8 if node_flags & lmdb_pages.IN_OVERFLOW else low | high << 16
        taken += lmdb_pages.NODE.size + length + (length & 1)
    return taken == len(raw) - upper


def _destroy_salvaged(environment: Environment, txn: Transaction) -> None:
    """Destroy the configs that `salvage` has kept beside the store, of images that are redacted."""
    folder = environment.path.joinpath(*_SALVAGED)
    try:
        if not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            try:
                key = bytes.fromhex(path.name)
            except ValueError:
                continue
            if not configs.redacted_at(key, txn.get("configs", key) or b""):
                continue
            with path.open("r+b") as file:
                file.write(bytes(path.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
        store_files.sync_names(folder)
    except OSError as error:
        raise refused(str(environment.path), error) from error
