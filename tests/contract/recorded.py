"""Read what Docker's store answered, and put our answers into the same words."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

from eventstore import ContainerConfig, Image

DATA = Path(__file__).parent.parent / "data" / "conformance"

# Docker's JSON name of each field of a container config, as `eventstore.image` decodes it.
CONFIG_FIELDS = {
    "Hostname": "hostname",
    "Domainname": "domainname",
    "User": "user",
    "AttachStdin": "attach_stdin",
    "AttachStdout": "attach_stdout",
    "AttachStderr": "attach_stderr",
    "ExposedPorts": "exposed_ports",
    "Tty": "tty",
    "OpenStdin": "open_stdin",
    "StdinOnce": "stdin_once",
    "Env": "env",
    "Cmd": "cmd",
    "Healthcheck": "healthcheck",
    "ArgsEscaped": "args_escaped",
    "Image": "image",
    "Volumes": "volumes",
    "WorkingDir": "working_dir",
    "Entrypoint": "entrypoint",
    "NetworkDisabled": "network_disabled",
    "MacAddress": "mac_address",
    "OnBuild": "on_build",
    "Labels": "labels",
    "StopSignal": "stop_signal",
    "StopTimeout": "stop_timeout",
    "Shell": "shell",
}
HEALTH_FIELDS = {
    "Test": "test",
    "Interval": "interval",
    "Timeout": "timeout",
    "StartPeriod": "start_period",
    "StartInterval": "start_interval",
    "Retries": "retries",
}
# Docker writes these only when they are set; all others always.
OMITTED_WHEN_EMPTY = {
    "ArgsEscaped",
    "ExposedPorts",
    "Healthcheck",
    "NetworkDisabled",
    "OnBuild",
    "Shell",
    "StopSignal",
    "StopTimeout",
}
# Decoded here, while the Docker that was recorded no longer has them.
UNKNOWN_TO_DOCKER = {"MacAddress"}


def sequences() -> list[dict[str, Any]]:
    """Return the recorded sequences of operations."""
    with gzip.open(DATA / "store_sequences.json.gz") as file:
        loaded: list[dict[str, Any]] = json.load(file)
    return loaded


def configs() -> tuple[list[str], list[dict[str, Any]]]:
    """Return the chain ids that the layer store knows, and the recorded verdicts on configs."""
    loaded = json.loads((DATA / "image_configs.json").read_text(encoding="utf-8"))
    return loaded["known_chain_ids"], loaded["configs"]


def answer(image: Image) -> dict[str, Any]:
    """Return what `get` answered as the recordings of sequences put it."""
    found = {
        "architecture": image.architecture,
        "author": image.author,
        "chain_id": image.root_fs.chain_id(),
        "comment": image.comment,
        "config": None if image.config is None else _config(image.config),
        "container": image.container,
        "created_unix_nano": None if image.created_ns is None else _as_int64(image.created_ns),
        "diff_ids": list(image.root_fs.diff_ids),
        "docker_version": image.docker_version,
        "history_empty": sum(step.empty_layer for step in image.history),
        "history_len": len(image.history),
        "id": image.id,
        "os": image.os,
        "os_features": None if image.os_features is None else list(image.os_features),
        "os_version": image.os_version,
        "parent": image.parent or "",
        "raw_b64": base64.b64encode(image.raw_json).decode(),
        "size": image.size,
        "variant": image.variant,
    }
    for name in ("config", "created_unix_nano"):
        if found[name] is None:
            del found[name]
    return found


def _config(config: ContainerConfig) -> dict[str, Any]:
    """Return a container config as Docker would write it."""
    written: dict[str, Any] = {}
    for name, field in CONFIG_FIELDS.items():
        value = getattr(config, field)
        if name in UNKNOWN_TO_DOCKER or (name in OMITTED_WHEN_EMPTY and _is_empty(value)):
            continue
        if name == "Healthcheck":
            health = {key: _plain(getattr(value, into)) for key, into in HEALTH_FIELDS.items()}
            value = {key: entry for key, entry in health.items() if entry}
        elif name in ("ExposedPorts", "Volumes") and value is not None:
            value = {key: {} for key in value}
        written[name] = _plain(value)
    return written


def _is_empty(value: Any) -> bool:
    """Tell whether Go's `omitempty` leaves a value out; a pointer is empty only if it is nil."""
    return value is None or value is False or value in ("", (), {})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _as_int64(nanoseconds: int) -> int:
    """Return what Go's `UnixNano` gives: what does not fit into 64 bits wraps around."""
    return (nanoseconds + 2**63) % 2**64 - 2**63
