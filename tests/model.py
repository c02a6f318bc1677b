"""A model of the image store in plain dictionaries, written apart from the store.

It knows what the store should answer, not how. `contract/` plays Docker's own cases on it and on
the store, which keeps it honest; the state machine compares the two on histories nobody thought of.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from eventstore import (
    AmbiguousDigestError,
    ImageNotFoundError,
    InvalidImageError,
    InvalidParentError,
)


@dataclass(frozen=True)
class ModelRootFS:
    """The layers of an image, bottom first."""

    diff_ids: tuple[str, ...]

    def chain_id(self) -> str:
        """Return the id of the whole stack, by OCI's recursive rule."""
        if len(self.diff_ids) <= 1:
            return "".join(self.diff_ids)
        below = ModelRootFS(self.diff_ids[:-1]).chain_id()
        return _sha256(f"{below} {self.diff_ids[-1]}".encode())


@dataclass(frozen=True)
class ModelImage:
    """The part of an image that Docker's cases ask for."""

    id: str
    raw_json: bytes
    parent: str | None

    @property
    def fields(self) -> dict[str, Any]:
        """Return the config, decoded."""
        decoded: dict[str, Any] = json.loads(self.raw_json)
        return decoded

    @property
    def comment(self) -> str:
        """Return what the config says of the image."""
        return self.fields.get("comment", "")

    @property
    def os(self) -> str:
        """Return the operating system that the config names."""
        return self.fields.get("os", "")

    @property
    def root_fs(self) -> ModelRootFS:
        """Return the layers."""
        return ModelRootFS(tuple(self.fields["rootfs"].get("diff_ids") or ()))


class ModelStore:
    """What the store should hold, as dictionaries by id."""

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        """Start empty; `now` gives nanoseconds since 1970."""
        self.now = now
        self.configs: dict[str, bytes] = {}
        self.parents: dict[str, str] = {}
        self.updated: dict[str, int] = {}
        self.built: set[str] = set()
        self.events = 0

    def copy(self) -> ModelStore:
        """Return a model that goes its own way from here."""
        return copy.deepcopy(self)

    def create(self, config: bytes) -> str:
        """Create an image."""
        try:
            decoded: Any = json.loads(config)
        except ValueError as error:
            raise InvalidImageError("refused by the model") from error
        if not isinstance(decoded, dict):
            raise InvalidImageError("refused by the model")
        layers = (decoded.get("rootfs") or {}).get("diff_ids") or []
        filled = [step for step in decoded.get("history") or [] if not step.get("empty_layer")]
        if decoded.get("rootfs") is None or len(filled) > len(layers):
            raise InvalidImageError("refused by the model")
        image_id = _sha256(config)
        if image_id not in self.configs:
            self.configs[image_id] = config
            self.events += 1
        return image_id

    def get(self, image_id: str) -> ModelImage:
        """Return an image."""
        self._require(image_id)
        return ModelImage(image_id, self.configs[image_id], self.parents.get(image_id))

    def delete(self, image_id: str) -> list[object]:
        """Delete an image; its children lose their parent."""
        self._require(image_id)
        del self.configs[image_id]
        self.parents.pop(image_id, None)
        self.updated.pop(image_id, None)
        self.built.discard(image_id)
        self.parents = {child: at for child, at in self.parents.items() if at != image_id}
        self.events += 1
        return []

    def set_parent(self, image_id: str, parent_id: str | None) -> None:
        """Give an image a parent."""
        self._require(image_id)
        if parent_id is not None:
            self._require(parent_id)
        if self.parents.get(image_id) == parent_id:
            return
        at = parent_id
        while at is not None:
            if at == image_id:
                raise InvalidParentError("refused by the model")
            at = self.parents.get(at)
        if parent_id is None:
            del self.parents[image_id]
        else:
            self.parents[image_id] = parent_id
        self.events += 1

    def get_parent(self, image_id: str) -> str | None:
        """Return the parent of an image."""
        self._require(image_id)
        return self.parents.get(image_id)

    def set_last_updated(self, image_id: str, instant: int | None = None) -> None:
        """Set the last update of an image, in nanoseconds since 1970; now if not given."""
        self._require(image_id)
        instant = self.now() if instant is None else instant
        if self.updated.get(image_id) != instant:
            self.updated[image_id] = instant
            self.events += 1

    def get_last_updated(self, image_id: str) -> datetime | None:
        """Return the last update of an image, cut to microseconds."""
        self._require(image_id)
        if image_id not in self.updated:
            return None
        microseconds = self.updated[image_id] // 1_000
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)

    def set_built_locally(self, image_id: str) -> None:
        """Mark an image as built here."""
        self._require(image_id)
        if image_id not in self.built:
            self.built.add(image_id)
            self.events += 1

    def is_built_locally(self, image_id: str) -> bool:
        """Tell whether an image was built here."""
        self._require(image_id)
        return image_id in self.built

    def children(self, image_id: str) -> list[str]:
        """Return the children of an image, sorted."""
        self._require(image_id)
        return sorted(child for child, parent in self.parents.items() if parent == image_id)

    def map(self) -> dict[str, bytes]:
        """Return all configs by id."""
        return dict(self.configs)

    def heads(self) -> dict[str, bytes]:
        """Return the configs of the images without children by id."""
        parents = set(self.parents.values())
        return {key: value for key, value in self.configs.items() if key not in parents}

    def search(self, term: str) -> str:
        """Return the one image that a prefix names."""
        digits = term.removeprefix("sha256:")
        found = [key for key in self.configs if key.removeprefix("sha256:").startswith(digits)]
        if not found or term == "sha256:":
            raise ImageNotFoundError(term)
        if len(found) > 1:
            raise AmbiguousDigestError(term, sorted(found))
        return found[0]

    @property
    def position(self) -> int:
        """Return the number of events so far."""
        return self.events

    def __contains__(self, image_id: str) -> bool:
        """Tell whether the image is there."""
        return image_id in self.configs

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids, sorted."""
        return iter(sorted(self.configs))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.configs)

    def _require(self, image_id: str) -> None:
        if image_id not in self.configs:
            raise ImageNotFoundError(image_id)


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
