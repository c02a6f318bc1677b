"""Model an image config as Docker decodes it.

`Image.from_json` accepts what Docker's store accepts and refuses what it refuses; whatever the
bytes, the only exception is `InvalidImageError`. The id is the SHA-256 of the exact bytes, which
are kept: nothing is ever encoded again. The decoding itself is `go_json`'s, which does what Go
does, key by key; here stand the fields.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from msgspec import Struct

from eventstore import clock, digest, go_json
from eventstore.errors import InvalidImageError
from eventstore.go_json import GoJSONError, Members

CONFIG_SIZE_MAX = 16 * 1024 * 1024
_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d?):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)


class HealthConfig(Struct, frozen=True):
    """How to find out whether a container is healthy; durations in nanoseconds."""

    test: tuple[str, ...] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(Struct, frozen=True):
    """How a container of the image is run; the fields are Docker's in snake case."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, None] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, None] | None = None
    working_dir: str = ""
    entrypoint: tuple[str, ...] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: tuple[str, ...] | None = None


class RootFS(Struct, frozen=True):
    """The layers of an image, bottom first, by the digests of their unpacked content."""

    type: str = ""
    diff_ids: tuple[str, ...] = ()

    def chain_id(self) -> str:
        """Return the id of the whole stack of layers, empty without layers.

        The rule is OCI's: the first layer's chain id is its diff id; every further one's is the
        SHA-256 of the chain id below it, a space and its diff id.
        """
        chain = ""
        for diff_id in self.diff_ids:
            if chain:
                content = f"{chain} {diff_id}".encode("utf-8", "surrogatepass")
                chain = digest.PREFIX + hashlib.sha256(content).hexdigest()
            else:
                chain = diff_id
        return chain


class History(Struct, frozen=True):
    """One step of how the image was made, as the config tells it."""

    created_ns: int | None = None
    author: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False

    @property
    def created(self) -> datetime | None:
        """Return when the step was made; None if not said."""
        return None if self.created_ns is None else clock.to_datetime(self.created_ns)


class Image(Struct, frozen=True):
    """An image: its config as Docker decodes it, its id, its parent, its exact bytes.

    `parent` is the store's, not what the config says. `created_ns` is exact, nanoseconds since
    1970, UTC; None if the config gives no time.
    """

    id: str
    raw_json: bytes
    root_fs: RootFS
    parent: str | None = None
    architecture: str = ""
    variant: str = ""
    os: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] | None = None
    author: str = ""
    comment: str = ""
    container: str = ""
    docker_version: str = ""
    size: int = 0
    created_ns: int | None = None
    config: ContainerConfig | None = None
    container_config: ContainerConfig | None = None
    history: tuple[History, ...] = ()

    @property
    def created(self) -> datetime | None:
        """Return when the image was made, cut to microseconds; None if the config does not say.

        What lies outside the years 1 to 9999 is given as the nearest end of them.
        """
        return None if self.created_ns is None else clock.to_datetime(self.created_ns)

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """Decode a config by the rules of Docker's create.

        Args:
            raw: the exact bytes, at most 16 MiB.

        Raises:
            InvalidImageError: Docker's store would refuse it.
        """
        image = cls.from_stored(raw)
        if sum(not step.empty_layer for step in image.history) > len(image.root_fs.diff_ids):
            raise InvalidImageError("too many non-empty layers in the history")
        return image

    @classmethod
    def from_stored(cls, raw: bytes) -> Self:
        """Decode a config that a store holds already, by the rules of Docker's restore.

        They are those of create, but for one: create holds the history against the layers, restore
        does not.

        Args:
            raw: the exact bytes, at most 16 MiB.

        Raises:
            InvalidImageError: Docker's decoder would refuse it.
        """
        if not isinstance(raw, bytes):
            raise InvalidImageError(f"a config is bytes, not {type(raw).__name__}")
        if len(raw) > CONFIG_SIZE_MAX:
            raise InvalidImageError(f"{len(raw)} bytes are more than {CONFIG_SIZE_MAX}")
        try:
            fields: dict[str, Any] = _image(go_json.parse(raw), None) or {}
        except GoJSONError as error:
            raise InvalidImageError(str(error)) from error
        fields.pop("ignored", None)
        root_fs: dict[str, Any] | None = fields.pop("root_fs", None)
        if root_fs is None:
            raise InvalidImageError("no rootfs key")
        steps: tuple[dict[str, Any], ...] = fields.pop("history", None) or ()
        for name in ("config", "container_config"):
            fields[name] = _container_config(fields.get(name))
        return cls(
            id=digest.to_text(digest.digest_of(raw)),
            raw_json=raw,
            root_fs=RootFS(root_fs.get("type") or "", root_fs.get("diff_ids") or ()),
            history=tuple(History(**step) for step in steps),
            **_present(fields),
        )


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null: the zero values stand in the structs."""
    return {name: value for name, value in fields.items() if value is not None}


def _container_config(fields: dict[str, Any] | None) -> ContainerConfig | None:
    if fields is None:
        return None
    health = fields.pop("healthcheck", None)
    return ContainerConfig(
        healthcheck=None if health is None else HealthConfig(**_present(health)),
        **_present(fields),
    )


def parse_instant(text: str) -> int | None:
    """Return the nanoseconds since 1970 of an RFC 3339 time as Go takes it, None if it does not.

    Args:
        text: such as `2024-10-08T18:27:41.123456789+02:00`; digits beyond nanoseconds are cut. As
            Go's `time.Parse` has it, an hour may have one digit, an offset 24 hours or 60 minutes.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, sign, zone_hours, zone_minutes = match.groups()[6:]
    offset = 0
    if sign:
        if int(zone_hours) > 24 or int(zone_minutes) > 60:
            return None
        offset = (int(zone_hours) * 60 + int(zone_minutes)) * (1 if sign == "+" else -1)
    try:
        # Python has no year 0; a year of the same length stands in for it.
        moment = datetime(year or 4, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    if year == 0:
        seconds -= (datetime(5, 1, 1, tzinfo=UTC) - datetime(1, 1, 1, tzinfo=UTC)) // timedelta(
            seconds=1
        )
    nanoseconds = int(((fraction or "") + "0" * 9)[:9])
    return (seconds - offset * 60) * clock.NANOSECONDS + nanoseconds


def _instant(value: Any, before: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        raise GoJSONError("is no text")
    found = parse_instant(value)
    if found is None:
        raise GoJSONError(f"is no RFC 3339 time: {value[:64]!r}")
    return found


def _empty(value: Any, before: Any) -> Any:
    """Take the `struct{}` that Go uses as the value of a set: any object, or null."""
    if value is not None and not isinstance(value, Members):
        raise GoJSONError("is no object")
    return None


def _nothing() -> None:
    """Return the zero value of the members of a set."""


_strings = go_json.list_of(go_json.string, str)
_set = go_json.map_of(_empty, _nothing)
_health = go_json.struct_of(
    {
        "Test": ("test", _strings),
        "Interval": ("interval", go_json.integer),
        "Timeout": ("timeout", go_json.integer),
        "StartPeriod": ("start_period", go_json.integer),
        "StartInterval": ("start_interval", go_json.integer),
        "Retries": ("retries", go_json.integer),
    }
)
_run_config = go_json.struct_of(
    {
        "Hostname": ("hostname", go_json.string),
        "Domainname": ("domainname", go_json.string),
        "User": ("user", go_json.string),
        "AttachStdin": ("attach_stdin", go_json.boolean),
        "AttachStdout": ("attach_stdout", go_json.boolean),
        "AttachStderr": ("attach_stderr", go_json.boolean),
        "ExposedPorts": ("exposed_ports", _set),
        "Tty": ("tty", go_json.boolean),
        "OpenStdin": ("open_stdin", go_json.boolean),
        "StdinOnce": ("stdin_once", go_json.boolean),
        "Env": ("env", _strings),
        "Cmd": ("cmd", _strings),
        "Healthcheck": ("healthcheck", _health),
        "ArgsEscaped": ("args_escaped", go_json.boolean),
        "Image": ("image", go_json.string),
        "Volumes": ("volumes", _set),
        "WorkingDir": ("working_dir", go_json.string),
        "Entrypoint": ("entrypoint", _strings),
        "NetworkDisabled": ("network_disabled", go_json.boolean),
        "MacAddress": ("mac_address", go_json.string),
        "OnBuild": ("on_build", _strings),
        "Labels": ("labels", go_json.map_of(go_json.string, str)),
        "StopSignal": ("stop_signal", go_json.string),
        "StopTimeout": ("stop_timeout", go_json.integer),
        "Shell": ("shell", _strings),
    }
)
_step = go_json.struct_of(
    {
        "created": ("created_ns", _instant),
        "author": ("author", go_json.string),
        "created_by": ("created_by", go_json.string),
        "comment": ("comment", go_json.string),
        "empty_layer": ("empty_layer", go_json.boolean),
    },
    null_resets=False,
)
_image = go_json.struct_of(
    {
        "id": ("ignored", go_json.string),
        "parent": ("ignored", go_json.string),
        "comment": ("comment", go_json.string),
        "created": ("created_ns", _instant),
        "container": ("container", go_json.string),
        "container_config": ("container_config", _run_config),
        "docker_version": ("docker_version", go_json.string),
        "author": ("author", go_json.string),
        "config": ("config", _run_config),
        "architecture": ("architecture", go_json.string),
        "variant": ("variant", go_json.string),
        "os": ("os", go_json.string),
        "Size": ("size", go_json.integer),
        "rootfs": (
            "root_fs",
            go_json.struct_of(
                {"type": ("type", go_json.string), "diff_ids": ("diff_ids", _strings)}
            ),
        ),
        "history": ("history", go_json.list_of(_step, dict)),
        "os.version": ("os_version", go_json.string),
        "os.features": ("os_features", _strings),
    }
)
