"""Model an image config as Docker decodes it.

`Image.from_json` accepts what Docker's store accepts and refuses what it refuses; whatever the
bytes, the only exception is `InvalidImageError`. The id is the SHA-256 of the exact bytes, which
are kept: nothing is ever encoded again.

There are two ways to decode. The exact one is `go_json`'s, which does what Go does, key by key;
here stand the fields. It is the reference, and it gives every error. `plain_config` decodes what
tools really write, many times as fast, and leaves all else to the exact one; where it answers, the
answer is the same.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Self

from msgspec import Struct

from eventstore import clock, digest, go_json, plain_config
from eventstore.errors import InvalidImageError
from eventstore.go_json import GoJSONError, Members
from eventstore.image_parts import (
    ContainerConfig,
    HealthConfig,
    History,
    RootFS,
    parse_instant,
)

__all__ = [
    "CONFIG_SIZE_MAX",
    "ContainerConfig",
    "HealthConfig",
    "History",
    "Image",
    "RootFS",
    "parse_instant",
]

CONFIG_SIZE_MAX = 16 * 1024 * 1024


class Image(Struct, frozen=True, gc=False):
    """An image: its config as Docker decodes it, its id, its parent, its exact bytes.

    `parent` is the store's, not what the config says. `created_text` is the time as the config
    gives it, None if it gives none; `created_ns` and `created` are read from it.
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
    created_text: str | None = None
    config: ContainerConfig | None = None
    container_config: ContainerConfig | None = None
    history: tuple[History, ...] = ()

    @property
    def platform(self) -> str:
        """Return operating system, architecture and variant, as far as the config says them."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def last_step(self) -> str:
        """Return what made the last of the steps that say so, empty if none does."""
        steps = (step.created_by for step in reversed(self.history) if step.created_by)
        return next(steps, "")

    @property
    def created_ns(self) -> int | None:
        """Return when the image was made, exactly: nanoseconds since 1970, UTC.

        None if the config does not say.
        """
        return None if self.created_text is None else parse_instant(self.created_text)

    @property
    def created(self) -> datetime | None:
        """Return when the image was made, cut to microseconds; None if the config does not say.

        What lies outside the years 1 to 9999 is given as the nearest end of them.
        """
        created_ns = self.created_ns
        return None if created_ns is None else clock.to_datetime(created_ns)

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """Decode a config by the rules of Docker's create.

        Args:
            raw: the exact bytes, at most 16 MiB.

        Raises:
            InvalidImageError: Docker's store would refuse it.
        """
        image = cls.from_stored(raw)
        layers, steps = len(image.root_fs.diff_ids), image.history
        if len(steps) > layers and sum(not step.empty_layer for step in steps) > layers:
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
        return cls.from_checked(raw, digest.PREFIX + hashlib.sha256(raw).hexdigest())

    @classmethod
    def from_checked(cls, raw: bytes, image_id: str, parent: str | None = None) -> Self:
        """Decode a config as `from_stored` does, whose digest is known; it is not taken again.

        Args:
            raw: the exact bytes, at most 16 MiB.
            image_id: the SHA-256 of these bytes, as the caller has just made sure.
            parent: the image's parent in the store.

        Raises:
            InvalidImageError: Docker's decoder would refuse it.
        """
        plain = plain_config.decode(raw)
        if plain is None:
            return cls._from_unusual(raw, image_id, parent)
        return cls(
            image_id,
            raw,
            plain.root_fs,
            parent,
            plain.architecture,
            plain.variant,
            plain.os,
            plain.os_version,
            plain.os_features,
            plain.author,
            plain.comment,
            plain.container,
            plain.docker_version,
            plain.size,
            plain.created_text,
            plain.config,
            plain.container_config,
            plain.history or (),
        )

    @classmethod
    def _from_unusual(cls, raw: bytes, image_id: str, parent: str | None) -> Self:
        """Decode any config exactly as Go does, however it is written."""
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
            id=image_id,
            raw_json=raw,
            root_fs=RootFS(root_fs.get("type") or "", root_fs.get("diff_ids") or ()),
            parent=parent,
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


def _instant(value: Any, before: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        raise GoJSONError("is no text")
    if parse_instant(value) is None:
        raise GoJSONError(f"is no RFC 3339 time: {value[:64]!r}")
    return value


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
        "StopTimeout": ("stop_timeout", go_json.pointer_to(go_json.integer)),
        "Shell": ("shell", _strings),
    }
)
_step = go_json.struct_of(
    {
        "created": ("created_text", _instant),
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
        "created": ("created_text", _instant),
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
