"""Tell the whole story of an image, whom to blame for what it is, and since when something holds.

What happens to one image may change another: its deletion orphans its children, and a name that it
is given is taken from whoever had it. No record of the other's says so. Here they are found, by
walking the streams of the parents that an image had, and the histories of its names. And what
differs between two moments.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from itertools import islice, pairwise, takewhile

from eventstore import blame, diff, digest, digest_set, dropped, log
from eventstore.blame import Blame
from eventstore.errors import CorruptionError, ImageNotFoundError, StoreUsageError
from eventstore.events import Deleted, ParentSet, Record, Tagged, Untagged
from eventstore.explaining import answered
from eventstore.lmdb_transaction import Transaction
from eventstore.manifest_reader import ManifestReader
from eventstore.view import ImageView


class StoryReader(ManifestReader):
    """What can be told of how images came to be what they are."""

    @property
    def horizon(self) -> dropped.Horizon:
        """Return how far the log has been compacted: no moment before it can be looked at."""
        with self._lock:
            self._catch_up()
            return self._horizon

    @answered
    def story(
        self,
        image_id: str,
        *,
        after: int = 0,
        through: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Record]:
        """Iterate over the committed records in (after, through] that made an image what it is.

        Its own, as `records` gives them, and those of others that changed it: the deletion of the
        parent that it had, and the `Tagged` by which another image took a name from it. Where the
        first of these was dropped by a compaction, that stands for it. In order of position. Costs
        time in proportion to its stream, those of the parents that it had, and the histories of its
        names.

        Args:
            image_id: a whole id.
            after: exclusive lower bound.
            through: inclusive upper bound, the last position now if not given.
            reverse: newest first.

        Raises:
            ImageNotFoundError: the image was never there.
            CorruptionError: a record on the way is damaged, or a chain leads astray.
        """
        last = self._committed()
        through = last if through is None else min(through, last)
        found = self._story(image_id, through)
        return iter(
            [one for one in (reversed(found) if reverse else found) if one.position > after]
        )

    @answered
    def blame(self, image_id: str, *, as_of: datetime | int | None = None) -> Blame:
        """Return the facts of an image, there or gone, each with the record that made it so.

        Only what is committed counts, as in `records`; it costs what `story` does.

        Args:
            image_id: a whole id.
            as_of: a position or an aware datetime, inclusive; now if not given.

        Raises:
            ImageNotFoundError: the image was never there until then.
            StoreUsageError: there is no such moment.
            CompactedError: it was dropped.
            CorruptionError: a record on the way is damaged, or a chain leads astray.
        """
        position = self._at(as_of)
        try:
            story = self._story(image_id, position)
        finally:
            self._past.refuse_dropped(position)
        if not story:
            raise ImageNotFoundError(image_id)
        return blame.judge(image_id, position, story)

    def bisect(
        self,
        predicate: Callable[[ImageView], bool],
        *,
        after: int = 0,
        through: int | None = None,
    ) -> Record | None:
        """Return the first record after which a predicate holds, None if it does not at the end.

        It looks at about log2 of the range's length views of the past. That finds the record if the
        predicate goes from false to true once in the range and stays so; of one that goes to and
        fro, it finds one of the records that made it hold.

        Args:
            predicate: told of a view as `as_of` gives it.
            after: where the range begins; there it must not hold. If the log was compacted, not
                before it can be looked at.
            through: where the range ends, the last position now if not given.

        Raises:
            StoreUsageError: it holds at the start already, or there is no such range.
        """
        low = max(self._checked(after), self.horizon.through)
        high = self._at(through)
        if low > high:
            raise StoreUsageError(f"the range begins at {low}, behind its end at {high}")
        if predicate(self.as_of(position=low)):
            raise StoreUsageError(f"it holds at {low} already, where the range begins")
        if low == high or not predicate(self.as_of(position=high)):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if predicate(self.as_of(position=middle)):
                high = middle
            else:
                low = middle
        with self._environment.read() as txn:
            return log.read_one(txn, high)

    @answered
    def diff(
        self, a: ImageView | datetime | int, b: ImageView | datetime | int | None = None
    ) -> diff.ViewDiff:
        """Return what differs between two moments.

        Between positions and times it costs what the records between them do, and where an image
        was deleted there, an as-of besides.

        Args:
            a: a view, a position, or an aware datetime.
            b: the same; now if not given.
        """
        if not isinstance(a, ImageView) and not isinstance(b, ImageView):
            found = self._past.diff(self._at(a), self._at(b), self._head)
            if found is not None:
                return found
        return diff.between(self._moment(a), self._moment(b))

    def _moment(self, moment: ImageView | datetime | int | None) -> ImageView:
        if isinstance(moment, ImageView):
            return moment
        if moment is None:
            return self.as_of(position=self._committed())
        if isinstance(moment, datetime):
            return self.as_of(time=moment)
        return self.as_of(position=moment)

    @answered
    def search_history(self, term: str) -> str:
        """Return the id of the one image, there now or ever before, that `term` names.

        Raises:
            ImageNotFoundError: none is named.
            AmbiguousDigestError: more than one is.
        """
        with self._lock:
            self._catch_up()
            return digest.to_text(digest_set.lookup(term, self._ever_between))

    def _ever_between(self, low: bytes, high: bytes) -> list[bytes]:
        look = partial(self._ever, low, high)
        return sorted(self._at_view(lambda: self._live.matches(low, high), look))

    def _ever(self, low: bytes, high: bytes, txn: Transaction, present: list[bytes]) -> set[bytes]:
        """Return the first images, there or gone, from `low` through `high`.

        Raises:
            CorruptionError: they are not those that there are configs of.
        """
        limit = digest_set.CANDIDATES_MAX
        matches = set(present)
        matches.update(islice(log.tombstones_matching(txn, low, high), limit))
        known = set(islice(takewhile(high.__ge__, txn.keys("configs", low)), limit))
        if len(known) < limit and known != matches:
            which = ", ".join(sorted(image.hex()[:12] for image in known ^ matches))
            raise CorruptionError(f"a tombstone or a config is missing: {which}")
        return matches

    def _alike(self, size: int) -> set[str]:
        """Return the ids, there or gone, that share their first bytes with another one."""
        found: set[bytes] = set()
        before = b""
        with self._environment.read() as txn:
            for key in txn.keys("configs", b""):
                if key[:size] == before[:size]:
                    found.update((before, key))
                before = key
        return set(digest.to_texts(sorted(found)))

    def _story(self, image_id: str, through: int) -> list[Record]:
        """Return the story of an image up to a position, oldest first."""
        own = list(self.records(image_id, through=through))
        found = own + self._orphanings(own, through) + self._lost_names(own, through)
        found.sort(key=lambda record: record.position)
        return found

    def _orphanings(self, own: list[Record], through: int) -> list[Record]:
        """Return the deletions by which an image with a stream lost a parent."""
        held: dict[bytes, list[tuple[int, int]]] = {}
        parent, since = None, 0
        for record in own:
            event = record.event
            if isinstance(event, ParentSet | Deleted):
                if parent is not None:
                    held.setdefault(parent, []).append((since, record.position))
                parent = event.parent if isinstance(event, ParentSet) else None
                since = record.position
        if parent is not None:
            held.setdefault(parent, []).append((since, through + 1))
        found: list[Record] = []
        for image, spans in held.items():
            deletions = self._deletions(image, spans[0][0], spans[-1][1])
            positions = [record.position for record in deletions]
            for low, high in spans:
                first = bisect_right(positions, low)
                end = positions[first] if first < len(positions) else high
                if end > self._horizon.through and self._is_life_dropped(image, low):
                    if high > through:
                        found.append(self._compacting())
                elif end < high:
                    found.append(deletions[first])
        return found

    def _is_life_dropped(self, image: bytes, position: int) -> bool:
        """Tell whether the life that an image was in at a position was dropped by a compaction."""
        if position > self._horizon.through:
            return False
        state = self.as_of(position=self._horizon.through).state(image)
        return state is None or state.created > position

    def _compacting(self) -> Record:
        """Return the record by which the log was compacted last."""
        with self._environment.read() as txn:
            return log.read_one(txn, self._horizon.by)

    def _deletions(self, image: bytes, after: int, before: int) -> list[Record]:
        """Return the deletions of an image between two positions, oldest first."""
        head = self._head(image)
        if not head and after <= self._horizon.through:
            return []  # it was dropped
        if not head:
            raise CorruptionError(
                f"record {after} names the parent {digest.to_text(image)}, which was never there",
                position=after,
            )
        stream = log.stream(self._environment, image, head, after, before - 1)
        return [record for record in stream if isinstance(record.event, Deleted)]

    def _lost_names(self, own: list[Record], through: int) -> list[Record]:
        """Return the records by which others took names from an image with a stream."""
        image = own[0].event.digest if own else b""
        deletions = [one.position for one in own if isinstance(one.event, Deleted)]
        found: list[Record] = []
        for name in dict.fromkeys(one.event.name for one in own if isinstance(one.event, Tagged)):
            history = self._records_of_name(name)
            for had, lost in pairwise(history):
                if lost.position > through:
                    break
                if had.event.digest != image or isinstance(had.event, Untagged):
                    continue
                died = bisect_right(deletions, had.position) < bisect_right(
                    deletions, lost.position
                )
                if lost.event.digest != image and not died:
                    found.append(lost)
        return found
