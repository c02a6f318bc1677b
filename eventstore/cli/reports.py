"""Print what a sync or an import did, in lines that look alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from eventstore.cli.output import line

if TYPE_CHECKING:
    from eventstore.adding import AddReport
    from eventstore.sources.found import PassedOver
    from eventstore.sync import SyncReport

Counts = tuple[tuple[str, int], ...]
_COUNTED = "attestation"  # there is one for each image, and nobody wants to read that


def of_sync(found: SyncReport) -> Counts:
    """Return in words what a sync did, and how often."""
    return (
        ("created", len(found.created)),
        ("deleted", len(found.deleted)),
        ("created again", len(found.recreated)),
        ("parents set", found.parents_set),
        ("last updates set", found.last_updated_set),
        ("marked built", found.marked_built),
        ("names given", found.tagged),
        ("names taken away", found.untagged),
        ("unchanged", found.unchanged),
    )


def of_import(found: AddReport) -> Counts:
    """Return in words what an import did, and how often."""
    return (
        ("created", len(found.created)),
        ("parents set", found.parents_set),
        ("names given", found.tagged),
        ("manifests noted", found.described),
        ("unchanged", found.unchanged),
    )


def show(source: str, found: SyncReport | AddReport, counts: Counts) -> None:
    """Print what was done, a line each, and what of the source does not count."""
    line(f"{source}: {found.images} images")
    for name, count in counts:
        line(f"  {name:<18}{count:>6}")
    if found.passed_over:
        line(f"passed over or mended: {len(found.passed_over)}")
        for text in _passed_over(found.passed_over):
            line(f"  {text}")
    if found.dry_run:
        line("a dry run: nothing was appended")
    elif found.position == found.after:
        line("nothing is new: nothing was appended")
    else:
        line(f"appended @{found.after + 1} to @{found.position}")


def _passed_over(entries: Sequence[PassedOver]) -> Iterator[str]:
    attested = Counter(entry.kind for entry in entries)[_COUNTED]
    if attested:
        yield f"{_COUNTED}  {attested} manifests"
    for entry in entries:
        if entry.kind != _COUNTED:
            yield f"{entry.kind}  {entry.name}: {entry.detail}"


def summary(found: SyncReport) -> str:
    """Return one line that says what a sync did."""
    counts = [(count, what) for what, count in of_sync(found) if count and what != "unchanged"]
    if found.passed_over:
        counts.append((len(found.passed_over), "passed over or mended"))
    did = ", ".join(f"{count} {what}" for count, what in counts)
    where = f"@{found.after + 1} to @{found.position}"
    if found.position == found.after:
        where = f"@{found.position}"
    return f"{where}: {found.images} images{f': {did}' if did else ''}"
