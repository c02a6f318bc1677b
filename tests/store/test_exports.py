"""Carry records elsewhere, have others read them, and change what was carried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import (
    Checkpoint,
    DestinationExistsError,
    ImageStore,
    ProofError,
    RedactedError,
    StoreUsageError,
    check_export,
    check_store,
    export_records,
    import_records,
    verify_consistency,
)
from eventstore.exporting import FILES
from making import config
from store.children import run

FORMS = sorted(FILES)


@pytest.fixture
def filled(store: ImageStore) -> ImageStore:
    """Return a store with every kind of event, with an image that is gone and one that is back."""
    with store.transaction(reason="builds"):
        first, second, third = (store.create(config(name)) for name in "abc")
        store.set_parent(second, first)
    store.set_built_locally(second, reason="made here")
    store.set_last_updated(third, 5)
    store.delete(first, reason='nightly "prune" \u2028 \x1b[31m')
    store.create(config("a"))
    with store.transaction():
        store.tag("app", first)
        store.tag("app", second)
        store.tag("other:1", second)
        store.untag("other:1")
    secret, again = store.create(config("secret")), store.create(config("again"))
    store.redact(secret, reason="a key")
    store.redact(again, reason="a mistake")
    store.create(config("again"), allow_redacted=True)
    gone = store.create(config("gone"))
    store.delete(gone)
    store.redact(gone, reason="another key")
    store.delete(third)
    return store


def lines_of(folder: Path) -> list[bytes]:
    """Return the lines of an export."""
    path = next(folder / name for name in FILES.values() if (folder / name).exists())
    return path.read_bytes().splitlines(keepends=True)


def config_of(store: ImageStore, image_id: str) -> bytes | tuple[str, int]:
    """Return the config of an image, or by which record it was redacted."""
    try:
        return store.get(image_id).raw_json
    except RedactedError as error:
        return error.reason, error.position


@pytest.mark.parametrize("form", FORMS)
def test_what_was_exported_becomes_the_same_log(
    filled: ImageStore, tmp_path: Path, form: str
) -> None:
    """Byte for byte, with its configs, under an id of its own that says where it comes from."""
    checkpoint = export_records(filled, tmp_path / "out", form=form)
    assert checkpoint == filled.checkpoint()
    done = import_records(tmp_path / "out", tmp_path / "copy", known=checkpoint)
    assert (done.store_id, done.appended) == (filled.store_id, filled.position)
    assert (done.checkpoint, done.configs_missing) == (checkpoint, 2)
    assert list(check_store(tmp_path / "copy")) == []
    with ImageStore.open(tmp_path / "copy", create=False) as copy:
        assert [record.raw for record in copy.records()] == [
            record.raw for record in filled.records()
        ]
        assert (
            copy.as_of(position=copy.position).digest
            == filled.as_of(position=filled.position).digest
        )
        assert {image_id: config_of(copy, image_id) for image_id in copy} == {
            image_id: config_of(filled, image_id) for image_id in filled
        }
        assert copy.tags() == filled.tags() != {}
        assert [copy.tags(position) for position in range(copy.position)] == [
            filled.tags(position) for position in range(copy.position)
        ]
        assert copy.store_id != filled.store_id
        assert copy.fork is not None
        assert (copy.fork.store_id, copy.fork.position) == (filled.store_id, filled.position)
        gone = next(
            record.image_id for record in copy.records(reverse=True) if record.image_id not in copy
        )
        assert copy.search_history(gone) == gone


def test_a_store_is_carried_on_range_by_range(filled: ImageStore, tmp_path: Path) -> None:
    """Each range goes on where the last ended, and one that overlaps adds what is new."""
    for number, (after, through) in enumerate([(0, 3), (3, 6), (4, 8), (0, filled.position)]):
        folder = tmp_path / str(number)
        export_records(filled, folder, after=after, through=through)
        import_records(folder, tmp_path / "copy")
        with ImageStore.open(tmp_path / "copy", read_only=True) as copy:
            assert copy.checkpoint() == filled.checkpoint(through)
            old = filled.checkpoint(after)
            assert verify_consistency(old, copy.checkpoint(), copy.consistency_proof(after))
    again = import_records(tmp_path / "3", tmp_path / "copy")
    assert again.appended == 0
    assert list(check_store(tmp_path / "copy")) == []


def test_a_range_between_two_redactions_says_that_the_config_is_gone(
    store: ImageStore, tmp_path: Path
) -> None:
    """The mark of the first is none of the image that was created again; that of the second is."""
    image_id = store.create(config("secret"))
    store.redact(image_id, reason="a key")
    store.create(config("secret"), allow_redacted=True)
    middle = store.position
    last = store.redact(image_id, reason="one more")
    export_records(store, tmp_path / "start", through=2)
    export_records(store, tmp_path / "middle", after=2, through=middle)
    export_records(store, tmp_path / "end", after=middle)
    import_records(tmp_path / "start", tmp_path / "copy")
    assert list(check_store(tmp_path / "copy")) == []
    import_records(tmp_path / "middle", tmp_path / "copy")
    assert [problem.kind for problem in check_store(tmp_path / "copy")] == ["lost"]
    import_records(tmp_path / "end", tmp_path / "copy")
    assert list(check_store(tmp_path / "copy")) == []
    with ImageStore.open(tmp_path / "copy", create=False) as copy:
        assert config_of(copy, image_id) == ("one more", last)


def test_a_range_that_does_not_go_on_is_refused(filled: ImageStore, tmp_path: Path) -> None:
    """Behind a gap, before what is there, or of another log; nothing is appended."""
    export_records(filled, tmp_path / "late", after=5)
    with pytest.raises(ProofError, match="starts behind @5"):
        import_records(tmp_path / "late", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with ImageStore.open(tmp_path / "other") as other:
        for name in "uvwxyz":
            other.create(config(name))
    with pytest.raises(ProofError, match="not one log"):
        import_records(tmp_path / "late", tmp_path / "other")
    export_records(filled, tmp_path / "early", through=4)
    with pytest.raises(ProofError, match="does not go on"):
        import_records(tmp_path / "early", tmp_path / "other")
    with ImageStore.open(tmp_path / "other", read_only=True) as other:
        assert other.position == 6


@pytest.mark.parametrize("form", FORMS)
def test_no_change_of_an_export_passes(filled: ImageStore, tmp_path: Path, form: str) -> None:
    """A line edited, dropped, swapped, doubled or cut; what is shown, what is proved."""
    export_records(filled, tmp_path / "out", form=form, after=1)
    path = tmp_path / "out" / FILES[form]
    lines = lines_of(tmp_path / "out")
    changed = {
        "dropped": lines[:3] + lines[4:],
        "first dropped": lines[1:],
        "last dropped": lines[:-1],
        "swapped": [*lines[:2], lines[3], lines[2], *lines[4:]],
        "doubled": [*lines[:2], *lines[1:]],
        "cut": [*lines[:-1], lines[-1][:-9]],
        "actor": [line.replace(b"tester@host", b"nobody@host") for line in lines],
        "config": [line.replace(b'"config":"eyJ', b'"config":"eyK') for line in lines],
        "text": [*lines, b"no record\n"],
        "number": [*lines, b"7\n"],
        "deep": [*lines, b"[" * 100_000 + b"\n"],
        "no raw": [*lines, b'{"position":9}\n'],
        "huge position": [*lines, b'{"position":99999999999999999999,"raw":"00"}\n'],
    }
    for how, bent in changed.items():
        path.write_bytes(b"".join(bent))
        with pytest.raises(ProofError):
            check_export(tmp_path / "out")
            pytest.fail(how)
    path.write_bytes(b"".join(lines))
    assert check_export(tmp_path / "out").checkpoint == filled.checkpoint()
    proof = json.loads((tmp_path / "out" / "proof.json").read_bytes())
    for name, value in {
        "after": 2,
        "through": 4,
        "root_hash": "00" * 32,
        "frontier": [],
        "format": 2,
        "more": 1,
    }.items():
        (tmp_path / "out" / "proof.json").write_text(json.dumps(proof | {name: value}))
        with pytest.raises(ProofError):
            check_export(tmp_path / "out")


def test_a_checkpoint_that_is_kept_tells_a_forged_export(
    filled: ImageStore, tmp_path: Path
) -> None:
    """Whoever makes up a whole log can make it sound; not make it the one that is known."""
    kept = filled.checkpoint(4)
    with ImageStore.open(tmp_path / "forged", actor="tester@host") as forged:
        for name in "uvwxyz":
            forged.create(config(name))
        export_records(forged, tmp_path / "forgery")
        export_records(forged, tmp_path / "forgery-late", after=4)
    for name in ("forgery", "forgery-late"):
        assert check_export(tmp_path / name).checkpoint.position == 6
        with pytest.raises(ProofError, match="not of the log"):
            check_export(tmp_path / name, known=kept)
    with pytest.raises(ProofError, match="not of the log"):
        import_records(tmp_path / "forgery", tmp_path / "copy", known=kept)
    assert not (tmp_path / "copy").exists()
    export_records(filled, tmp_path / "sound")
    for position in (0, 4, filled.position):
        assert check_export(tmp_path / "sound", known=filled.checkpoint(position))
    with pytest.raises(ProofError):
        check_export(tmp_path / "sound", known=Checkpoint(99, kept.root_hash))


def test_every_line_is_a_cloud_event(filled: ImageStore, tmp_path: Path) -> None:
    """By the word of the CloudEvents project's own package."""
    export_records(filled, tmp_path / "out", form="cloudevents")
    seen = []
    for line in lines_of(tmp_path / "out"):
        event = JSONFormat().read(CloudEvent, line)
        assert event.get_specversion() == "1.0"
        assert event.get_source() == f"urn:uuid:{filled.store_id}"
        seen.append((event.get_id(), event.get_subject(), event.get_time()))
        data = event.get_data()
        assert isinstance(data, dict)
        assert data["position"] == int(event.get_id())
    assert seen == [
        (str(record.position), record.image_id, record.time) for record in filled.records()
    ]


def test_places_and_ranges_that_cannot_be(filled: ImageStore, tmp_path: Path) -> None:
    """A clear error each, and nothing is left behind."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(DestinationExistsError):
        export_records(filled, tmp_path / "taken")
    with pytest.raises(StoreUsageError):
        export_records(filled, Path(filled.path) / "inside")
    for after, through in ((0, 99), (5, 4), (-1, 4)):
        with pytest.raises(StoreUsageError):
            export_records(filled, tmp_path / "out", after=after, through=through)
    with pytest.raises(StoreUsageError):
        export_records(filled, tmp_path / "out", form="xml")
    assert not (tmp_path / "out").exists()
    for folder in (tmp_path / "taken", tmp_path / "absent"):
        with pytest.raises((ProofError, OSError)):
            import_records(folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    export_records(filled, tmp_path / "empty", through=0)
    assert import_records(tmp_path / "empty", tmp_path / "copy").checkpoint.position == 0
    assert list(check_store(tmp_path / "copy")) == []


def test_an_import_that_is_killed_goes_on(store: ImageStore, tmp_path: Path) -> None:
    """What was appended before is whole batches; the same import appends the rest."""
    image_id = store.create(config("a"))
    with store.transaction():
        for instant in range(1, 5000):
            store.set_last_updated(image_id, instant)
    export_records(store, tmp_path / "start", through=10)
    export_records(store, tmp_path / "all")
    import_records(tmp_path / "start", tmp_path / "copy")
    run(
        "import threading\n"
        "threading.Thread(target=lambda: import_records(sys.argv[2], path), daemon=True).start()\n"
        "store = None\n"
        "import eventstore.store\n"
        "exact = eventstore.store.ImageStore.append_exact\n"
        "count = []\n"
        "def counted(self, part):\n"
        "    exact(self, part)\n"
        "    count.append(1)\n"
        "    time.sleep(1 if len(count) > 1 else 0)\n"
        "eventstore.store.ImageStore.append_exact = counted\n"
        "wait_until(lambda: len(count) > 1)\n"
        "os._exit(0)\n",
        tmp_path / "copy",
        tmp_path / "all",
    )
    with ImageStore.open(tmp_path / "copy", read_only=True) as copy:
        assert 10 < copy.position < store.position
    assert list(check_store(tmp_path / "copy")) == []
    done = import_records(tmp_path / "all", tmp_path / "copy")
    assert done.checkpoint == store.checkpoint()
    assert list(check_store(tmp_path / "copy")) == []


@settings(max_examples=15)
@given(data=st.data())
def test_any_cut_of_any_log_can_be_carried(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two ranges that meet make the same log, wherever they meet."""
    folder = tmp_path_factory.mktemp("cut")
    with ImageStore.open(folder / "store", actor="a") as store:
        for name in data.draw(st.lists(st.sampled_from("abcd"), max_size=12)):
            image_id = store.create(config(name))
            if data.draw(st.booleans()):
                store.delete(image_id)
        middle = data.draw(st.integers(0, store.position))
        export_records(store, folder / "one", through=middle)
        export_records(store, folder / "two", after=middle, form="cloudevents")
        import_records(folder / "one", folder / "copy")
        done = import_records(folder / "two", folder / "copy", known=store.checkpoint())
        assert done.checkpoint == store.checkpoint()
    assert list(check_store(folder / "copy")) == []
