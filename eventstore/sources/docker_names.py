"""Read the names that a Docker daemon keeps for its images, from `repositories.json`.

The file lies beside `imagedb` and maps repositories to names to image ids. It is decoded as Docker
decodes it. A daemon writes it when it first starts, and without it lists no names. What is wrong is
reported under one of these kinds::

    names-unreadable         the file cannot be read or makes no sense; all names stay as they are
    name-invalid             an entry that is no name, or whose value is no image id
    name-without-image       a name of an image that is not listed

As with the image database, no link is followed, and what is read is bounded in size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from eventstore import digest, go_json, references
from eventstore.errors import InvalidReferenceError, SourceError
from eventstore.go_json import GoJSONError
from eventstore.regular_file import Folder, IrregularFileError
from eventstore.sources.found import PassedOver, printable
from eventstore.sources.remembered import Remembered

REPOSITORIES = "repositories.json"
REPOSITORIES_SIZE_MAX = 1 << 25
_repositories = go_json.struct_of(
    {"Repositories": ("names", go_json.map_of(go_json.map_of(go_json.string, str), dict))}
)


def read_names(
    path: Path,
    below: tuple[str, ...],
    *,
    whole: bool,
    passed_over: list[PassedOver],
    remembered: Remembered | None = None,
) -> dict[str, str] | None:
    """Return canonical names and the ids of their images.

    Args:
        path: a folder that is trusted.
        below: names of the folders that lead from there to the one with the file.
        whole: whether that is surely the folder of a storage driver, where no file means no name.
        passed_over: takes what does not count.
        remembered: what the last reading found.

    Returns:
        The names; None if they cannot be told.
    """
    try:
        folder = Folder.open(path, *below)
        if folder is None:
            return None
        with folder:
            stamp = None if remembered is None else folder.stamp(REPOSITORIES)
            known = None if remembered is None else remembered.names(stamp)
            if known is not None:
                return known
            raw = folder.read(REPOSITORIES, REPOSITORIES_SIZE_MAX)
        if raw is None:
            return {} if whole else None
        decoded: dict[str, Any] = _repositories(go_json.parse(raw), None) or {}
    except (IrregularFileError, SourceError, GoJSONError) as error:
        detail = error.detail if isinstance(error, IrregularFileError) else str(error)
        passed_over.append(PassedOver("names-unreadable", REPOSITORIES, printable(detail)))
        return None
    before = len(passed_over)
    found = _names(decoded.get("names") or {}, passed_over)
    if remembered is not None:
        remembered.keep_names(stamp, found if len(passed_over) == before else None)
    return found


def _names(
    repositories: dict[str, dict[str, str] | None], passed_over: list[PassedOver]
) -> dict[str, str]:
    """Return the names that Docker would know, each with a whole image id."""
    found: dict[str, str] = {}
    for repository in sorted(repositories):
        for text, image_id in sorted((repositories[repository] or {}).items()):
            try:
                name = references.canonical(text)
            except InvalidReferenceError as error:
                passed_over.append(_invalid(text, error.reason))
                continue
            if digest.parse(image_id) is None:
                passed_over.append(_invalid(text, f"{image_id[:80]!r} is no image id"))
            elif found.setdefault(name, image_id) != image_id:
                passed_over.append(_invalid(text, f"it names {found[name]} as well"))
    return found


def without_image(names: dict[str, str], listed: Callable[[str], bool]) -> Collection[PassedOver]:
    """Return the findings about names whose image is not listed."""
    return [
        PassedOver("name-without-image", printable(name), f"{image_id} is not listed")
        for name, image_id in sorted(names.items())
        if not listed(image_id)
    ]


def _invalid(text: str, detail: str) -> PassedOver:
    return PassedOver("name-invalid", printable(text), printable(detail))
