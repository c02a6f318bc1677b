"""A model of the image store in plain dictionaries, written apart from the store.

It knows what the store should answer, not how. `contract/` plays Docker's own cases on it and on
the store, which keeps it honest; the state machine compares the two on histories nobody thought of.
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

from eventstore import ImageNotFoundError, InvalidImageError, InvalidParentError


class ModelStore:
    """What the store should hold, as dictionaries by id."""

    def __init__(self) -> None:
        """Start empty."""
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
        decoded: Any = json.loads(config)
        layers = (decoded.get("rootfs") or {}).get("diff_ids") or []
        filled = [step for step in decoded.get("history") or [] if not step.get("empty_layer")]
        if decoded.get("rootfs") is None or len(filled) > len(layers):
            raise InvalidImageError("refused by the model")
        image_id = "sha256:" + hashlib.sha256(config).hexdigest()
        if image_id not in self.configs:
            self.configs[image_id] = config
            self.events += 1
        return image_id

    def delete(self, image_id: str) -> None:
        """Delete an image; its children lose their parent."""
        self._require(image_id)
        del self.configs[image_id]
        self.parents.pop(image_id, None)
        self.updated.pop(image_id, None)
        self.built.discard(image_id)
        self.parents = {child: at for child, at in self.parents.items() if at != image_id}
        self.events += 1

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

    def set_last_updated(self, image_id: str, instant: int) -> None:
        """Set the last update of an image, in nanoseconds since 1970."""
        self._require(image_id)
        if self.updated.get(image_id) != instant:
            self.updated[image_id] = instant
            self.events += 1

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
        if len(found) != 1 or term == "sha256:":
            raise ImageNotFoundError(term)
        return found[0]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.configs)

    def _require(self, image_id: str) -> None:
        if image_id not in self.configs:
            raise ImageNotFoundError(image_id)
