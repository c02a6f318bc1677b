"""Write records as lines of JSON, for people and other programs, and read them back exactly.

A line says all that a record says, and holds its exact bytes besides, so that nothing is lost and
everything can be proved. Who reads one back takes the bytes alone for true, and refuses a line that
says anything else than they do. A CloudEvent (CNCF, version 1.0) has the same as its `data`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import msgspec

from eventstore import codec, digest
from eventstore.errors import CorruptionError, ProofError
from eventstore.events import Created, Record

SPEC_VERSION = "1.0"
TYPE_PREFIX, LOG_TYPE_PREFIX = "eventstore.image.", "eventstore.log."
CONFIG, DATA = "config", "data"
_SEQUENCE_WIDTH = 20
_MALFORMED = (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)


def as_json(record: Record, config: bytes | None = None) -> dict[str, Any]:
    """Return a record as a JSON object.

    Args:
        record: which one.
        config: the config of the image that it creates, None to leave it out.
    """
    shown: dict[str, Any] = {
        "position": record.position,
        "time": record.time.isoformat(),
        "time_ns": record.time_ns,
        "actor": record.actor,
        "reason": record.reason,
        "batch": record.batch,
        "previous": record.previous,
        "image": record.image_id,
        "event": type(record.event).__name__,
        "fields": _plain(record.event),
        "raw": record.raw.hex(),
    }
    if config is not None:
        shown[CONFIG] = base64.b64encode(config).decode()
    return shown


def as_cloud_event(record: Record, store_id: str, config: bytes | None = None) -> dict[str, Any]:
    """Return a record as a CloudEvent in JSON form.

    Its source is the store and its id the position, which together name no other record; the
    extension `sequence` sorts as the log does.

    Args:
        record: which one.
        store_id: the id of its store, a UUID.
        config: as for `as_json`.
    """
    about = {"subject": record.image_id} if record.image_id else {}
    prefix = TYPE_PREFIX if record.image_id else LOG_TYPE_PREFIX
    return {
        "specversion": SPEC_VERSION,
        "id": str(record.position),
        "source": f"urn:uuid:{store_id}",
        "type": prefix + type(record.event).__name__.lower(),
        **about,
        "time": record.time.isoformat(),
        "datacontenttype": "application/json",
        "sequence": f"{record.position:0{_SEQUENCE_WIDTH}}",
        DATA: as_json(record, config),
    }


def parse(line: bytes, number: int) -> tuple[Record, bytes | None]:
    """Return the record that a line holds, and the config with it; of either form.

    Args:
        line: the line.
        number: which one of its file, for messages.

    Raises:
        ProofError: it is no such line, or says what its record does not.
    """
    try:
        said = msgspec.json.decode(line, type=dict[str, Any])
        said = said.get(DATA, said)
        record = codec.decode(said["position"], bytes.fromhex(said["raw"]))
        coded = said.pop(CONFIG, None)
        config = None if coded is None else base64.b64decode(coded, validate=True)
        same = said == as_json(record)
    except CorruptionError as error:
        raise ProofError(f"line {number}: {error}") from error
    except _MALFORMED as error:
        raise ProofError(f"line {number} is no record: {error}") from error
    if not same:
        raise ProofError(f"line {number} does not say what its record says")
    if config is not None and not _is_config_of(record, config):
        raise ProofError(f"line {number}: its config is not that of {record.image_id}")
    return record, config


def _plain(value: Any) -> Any:
    """Return what an event holds in values of JSON: bytes in hex, and the parts of it by name."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.asdict(value)
        return {name: _plain(part) for name, part in fields.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in cast("Iterable[Any]", value)]
    return value


def _is_config_of(record: Record, config: bytes) -> bool:
    return isinstance(record.event, Created) and digest.digest_of(config) == record.event.digest


def write_lines(path: Path, lines: Iterable[object]) -> None:
    """Write each of some values as a line of JSON into a new file."""
    with path.open("wb") as file:
        for line in lines:
            file.write(msgspec.json.encode(line) + b"\n")
