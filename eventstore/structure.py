"""Check the structure of a data file, and read one that fails the check without LMDB.

The check is LMDB's own offline one, and those of `lmdb_pages`. It needs a file at rest: what it
finds counts only if no commit happened meanwhile, so it is tried again, and at last done while
writers wait. Readers go on in any case. It takes about 2 ms a megabyte, and in memory 2 bytes a
page.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from eventstore import lmdb_pages, store_files
from eventstore.errors import CorruptionError
from eventstore.lmdb_env import DATABASES, MAIN, Environment
from eventstore.lmdb_pages import Meta, Node, PageFile
from eventstore.lmdb_structure import structure_faults
from eventstore.lmdb_transaction import Transaction
from eventstore.notices import Notices

_ATTEMPTS = 3
_OFFSET_BITS = 16  # what an offset in a page takes
logger = Notices(__name__)


def faults_of(environment: Environment) -> list[str]:
    """Return what is wrong with the structure of an open store's file, of its newest commit."""
    found = _at_rest(environment.path)
    if found is None and not environment.read_only:
        session = environment.begin_write()
        try:
            found = _at_rest(environment.path)
        finally:
            session.abort()
    if found is None:
        logger.warning(
            "%s: others write without a pause: its structure was not checked", environment.path
        )
    return found or []


def faults_at(path: Path) -> list[str]:
    """Return what is wrong with the structure of a store's file; LMDB does not open it.

    Raises:
        StoreIOError: the operating system refuses.
    """
    found = _at_rest(path)
    if found is None:
        logger.warning("%s: others write without a pause: its structure was not checked", path)
    return found or []


def refuse_unsound(path: Path) -> None:
    """Refuse a store whose file's structure is not sound; one that is not there is none.

    Raises:
        CorruptionError: something is wrong with it.
        StoreIOError: the operating system refuses.
    """
    try:
        missing = not path.joinpath(store_files.DATA).exists()
    except (ValueError, OSError):
        return  # what opens it says what is wrong with the path
    faults = [] if missing else faults_at(path)
    if faults:
        raise CorruptionError(f"{path}: {faults[0]}; `eventstore salvage` gets out what is sound")


def _at_rest(path: Path) -> list[str] | None:
    """Return the faults, None if commits went on all the time."""
    for _ in range(_ATTEMPTS):
        with PageFile(path / store_files.DATA) as pages:
            before = pages.metas()
            head = lmdb_pages.head_fault(pages, DATABASES)
            found = ([] if head is None else [head]) + structure_faults(path)
            if pages.metas() == before:
                return found
    return None


def best_meta(pages: PageFile) -> Meta | None:
    """Return the meta page to read by: the newest that leads to a log.

    A meta page that is damaged itself may still lead there. What it says its commit is must not be
    contradicted by the list of free pages that it leads to.
    """

    def quality(meta: Meta) -> tuple[bool, bool, int]:
        written_by, _ = pages.free_pages(meta, [])
        leads = b"log" in pages.trees(meta, [])
        return leads, written_by in (0, meta.commit), meta.commit

    return max(pages.metas(), key=quality, default=None)


def place_of(number: int, node: Node) -> int:
    """Return where a node lies, as one number."""
    return number << _OFFSET_BITS | node.start


def value_at(pages: PageFile, place: int) -> bytes | None:
    """Return the value of the node at a place, None if it cannot be read."""
    raw = pages.page(place >> _OFFSET_BITS)
    node = None if raw is None else lmdb_pages.node_at(raw, place & (1 << _OFFSET_BITS) - 1)
    return None if raw is None or node is None else pages.value(raw, node)


class PageReading(Transaction):
    """The newest commit of a damaged file, as a transaction that reads page by page."""

    def __init__(self, pages: PageFile) -> None:
        """Find all keys that can still be reached."""
        self.path = pages.path.parent
        self._pages = pages
        self._meta = best_meta(pages)
        self._places: dict[str, dict[bytes, int]] = {name: {} for name in (*DATABASES, MAIN)}
        self._sorted: dict[str, list[bytes]] = {}
        if self._meta is not None:
            self._find(self._meta)
        for name, places in self._places.items():
            self._sorted[name] = sorted(places)

    def _find(self, meta: Meta) -> None:
        trees = self._pages.trees(meta, [])
        roots = {name: trees[name.encode()] for name in DATABASES if name.encode() in trees}
        for name, tree in {**roots, MAIN: meta.main}.items():
            places = self._places[name]
            for number, raw in self._pages.leaves(tree, name, []):
                for node in lmdb_pages.nodes(raw):
                    places.setdefault(node.key, place_of(number, node))

    @property
    def number(self) -> int:
        """Return the number of the commit that is seen."""
        return 0 if self._meta is None else self._meta.commit

    def get(self, database: str, key: bytes) -> bytes | None:
        """Return the value under a key, None if there is none, or none can be read."""
        place = self._places[database].get(key)
        return None if place is None else value_at(self._pages, place)

    def entries(self, database: str) -> int:
        """Return the number of entries of a database that can be reached."""
        return len(self._places[database])

    def last_key(self, database: str) -> bytes | None:
        """Return the greatest key, None if there is none."""
        keys = self._sorted[database]
        return keys[-1] if keys else None

    def scan(
        self, database: str, start: bytes = b"", *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys and values, as `Transaction.scan`; one without a value has none."""
        keys = self._sorted[database]
        if reverse:
            end = bisect_right(keys, start) if start else len(keys)
            chosen: Iterator[bytes] = (keys[at] for at in range(end - 1, -1, -1))
        else:
            chosen = (keys[at] for at in range(bisect_left(keys, start), len(keys)))
        for key in chosen:
            yield key, self.get(database, key) or b""


Read = Callable[[], AbstractContextManager[Transaction]]


def reading(pages: PageFile) -> Read:
    """Return what stands for `Environment.read` over a damaged file."""
    transaction = PageReading(pages)

    @contextmanager
    def read() -> Generator[Transaction]:
        yield transaction

    return read
