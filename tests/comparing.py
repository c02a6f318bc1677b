"""Compare a view, live or of the past, with the model."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from eventstore import ImageStore, ImageView, RedactedError
from model import ModelStore

Facts = dict[str, tuple[str | None, int | None, bool, tuple[str, ...]]]


def facts(view: ImageView) -> Facts:
    """Return all that a view knows: parent, last update, built mark and children by id."""
    found: Facts = {}
    for image_id in view:
        state = view.state(bytes.fromhex(image_id.removeprefix("sha256:")))
        updated = None if state is None else state.last_updated
        found[image_id] = (
            view.get_parent(image_id),
            updated,
            view.is_built_locally(image_id),
            tuple(view.children(image_id)),
        )
    return found


def model_facts(model: ModelStore) -> Facts:
    """Return all that the model knows, in the form of `facts`."""
    return {
        image_id: (
            model.parents.get(image_id),
            model.updated.get(image_id),
            image_id in model.built,
            tuple(model.children(image_id)),
        )
        for image_id in model.configs
    }


def assert_equal(
    view: ImageView | ImageStore, model: ModelStore, redacted: Collection[str] = ()
) -> None:
    """Fail unless the view and the model answer every question alike, but for what is redacted."""
    if isinstance(view, ImageStore):
        view = view.view()
    assert facts(view) == model_facts(model)
    assert len(view) == len(model)
    assert list(view.heads()) == sorted(model.heads())
    assert list(view.map()) == sorted(model.map())
    for image_id, config in model.configs.items():
        if image_id in redacted:
            with pytest.raises(RedactedError):
                view.get(image_id)
            continue
        image = view.get(image_id)
        assert (image.raw_json, image.parent) == (config, model.parents.get(image_id))
        assert view.search(image_id) == image_id
