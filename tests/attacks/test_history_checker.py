"""Plant every violation that the checker of histories must find, among what is sound."""

from __future__ import annotations

import sys

import pytest

from attacking import TOOLS

sys.path.append(str(TOOLS))
import history_checker as checker
from history_checker import NEVER, Entry, Read, Stretch, Write


def log() -> list[Entry]:
    """Return a log of three batches: an image, two with a parent, and the parent's end."""
    return [
        Entry(1, 1, "p", "p.0.1", "Created", "a", None, 11),
        Entry(2, 2, "q", "q.0.1", "Created", "b", None, 12),
        Entry(3, 2, "q", "q.0.1", "ParentSet", "b", "a", 13),
        Entry(4, 4, "p", "p.0.2", "Deleted", "a", None, 14),
    ]


def histories() -> checker.Histories:
    """Return what the threads of that log would tell."""
    return checker.Histories(
        writes=[
            Write("p.0.1", 10, 20, "acknowledged", (("Created", "a"),), (1, 1)),
            Write("q.0.1", 15, 30, "acknowledged", (("Created", "b"), ("ParentSet", "b")), (2, 3)),
            Write("p.0.2", 40, 50, "acknowledged", (("Deleted", "a"),)),
            Write("p.0.3", 51, 52, "failed"),
            Write("p.0.4", 53, NEVER, "inside"),
            Write("p.0.5", 54, NEVER, "leaving", (("Created", "c"),)),
            Write("p.0.6", 55, 56, "perhaps"),
        ],
        reads=[
            Read("r.0", 5, 9, 0, 0, "length", "", 0),
            Read("r.0", 21, 22, 1, 3, "children", "a", ("b",)),
            Read("r.0", 31, 32, 3, 3, "parent", "b", "a"),
            Read("r.1", 41, 60, 3, 4, "has", "a", False),
            Read("r.0", 61, 62, 4, 4, "parent", "b", None),
            Read("r.0", 63, 64, 4, 4, "parent", "a", checker.ABSENT),
            Read("r.0", 65, 66, 4, 4, "length", "", 1),
            Read("r.0", 67, 68, 4, 4, "position"),
        ],
        stretches=[Stretch("r.0", 1, 3, checker.checksum_of([12, 13])), Stretch("r.0", 4, 4, 0)],
    )


def found(entries: list[Entry], told: checker.Histories) -> list[str]:
    """Return the kinds of the violations."""
    return [text.partition(":")[0] for text in checker.violations(entries, told)]


def test_sound_histories_are_sound() -> None:
    """Also with failures, kills, and reads beside writes."""
    assert found(log(), histories()) == []


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (Entry(9, 9, "p", "p.0.2", "Deleted", "a"), "gap"),
        (Entry(4, 3, "p", "p.0.2", "Deleted", "a"), "gap"),
        (Entry(4, 4, "p", "p.0.3", "Deleted", "a"), "atomicity"),
        (Entry(4, 4, "p", "p.0.4", "Deleted", "a"), "atomicity"),
        (Entry(4, 4, "p", "p.0.5", "Deleted", "a"), "order"),
        (Entry(4, 4, "p", "p.0.1", "Deleted", "a"), "order"),
        (Entry(4, 4, "q", "p.0.2", "Deleted", "a"), "order"),
        (Entry(4, 4, "p", "p.0.2", "MarkedBuilt", "a"), "order"),
        (Entry(4, 4, "p", "nobody", "Deleted", "a"), "foreign"),
    ],
)
def test_a_log_that_the_writers_do_not_know_is_found(entry: Entry, kind: str) -> None:
    """The last record is another than it was."""
    assert kind in found([*log()[:3], entry], histories())


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (Write("p.1.1", 90, 91, "acknowledged"), "lost"),
        (Write("p.0.1", 90, 91, "failed"), "order"),
    ],
)
def test_a_write_that_the_log_does_not_know_is_found(write: Write, kind: str) -> None:
    """Acknowledged and not there, or told twice."""
    told = histories()
    told.writes.append(write)
    assert kind in found(log(), told)


def test_positions_that_the_writer_was_told_otherwise_are_found() -> None:
    """What was acknowledged is where it was acknowledged."""
    told = histories()
    told.writes[0] = Write("p.0.1", 10, 20, "acknowledged", (("Created", "a"),), (2, 2))
    assert found(log(), told) == ["order"]


def test_writes_against_the_order_of_time_are_found() -> None:
    """A write that began after another had ended has the greater position."""
    told = histories()
    told.writes[0] = Write("p.0.1", 35, 36, "acknowledged")
    assert "time" in found(log(), told)


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (Read("r.0", 70, 71, 3, 4, "position"), "back"),  # after others had seen 4
        (Read("r.1", 33, 34, 1, 3, "position"), "back"),  # in another thread than those
        (Read("p.0", 51, 52, 3, 3, "position"), "back"),  # not its own write
        (Read("r.0", 5, 6, 4, 4, "position"), "time"),  # before the write began
        (Read("r.0", 16, 39, 3, 1, "position"), "back"),  # within itself
        (Read("r.0", 16, 17, 2, 3, "position"), "half"),
        (Read("r.0", 80, 81, 9, 9, "position"), "half"),
        (Read("r.0", 80, 81, 4, 4, "length", "", 2), "answer"),
        (Read("r.0", 80, 81, 4, 4, "has", "a", True), "answer"),
        (Read("r.0", 80, 81, 4, 4, "parent", "b", "a"), "answer"),
        (Read("r.0", 80, 81, 4, 4, "children", "b", ("a",)), "answer"),
        (Read("r.0", 80, 81, 4, 4, "children", "a", ()), "answer"),
    ],
)
def test_reads_that_cannot_have_been_are_found(read: Read, kind: str) -> None:
    """Backward, too early, in the middle of a batch, or untrue."""
    told = histories()
    told.reads.append(read)
    assert kind in found(log(), told)


@pytest.mark.parametrize("stretch", [Stretch("r.0", 1, 3, 5), Stretch("r.0", 3, 9, 5)])
def test_records_that_are_not_those_of_the_log_are_found(stretch: Stretch) -> None:
    """Other bytes, or more than there are."""
    told = histories()
    told.stretches.append(stretch)
    assert found(log(), told) == ["records"]
