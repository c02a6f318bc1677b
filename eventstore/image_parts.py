"""The parts of an image config as Docker decodes it: how it is run, its layers, its history.

The structs are what users see, and at the same time what `plain_config` lets msgspec decode into:
the names that stand in a config are given beside the fields. Their bounds and their refusal of what
is unknown bear on that decoding only; nothing checks what a struct is made of by hand. None of them
can be part of a cycle, so Python's collector need not look at them, however many images are held.
"""

from __future__ import annotations

import hashlib
import re
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from eventstore import clock, digest

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d?):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)


class Nothing(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What stands in a config for the value of a member of a set: an empty object."""


if TYPE_CHECKING:
    NameSet = dict[str, None]
else:
    # What msgspec decodes; `plain_config` then puts None for each value.
    NameSet = dict[str, Nothing]

_HEALTH_NAMES = {
    "test": "Test",
    "interval": "Interval",
    "timeout": "Timeout",
    "start_period": "StartPeriod",
    "start_interval": "StartInterval",
    "retries": "Retries",
}
_CONTAINER_NAMES = {
    "hostname": "Hostname",
    "domainname": "Domainname",
    "user": "User",
    "attach_stdin": "AttachStdin",
    "attach_stdout": "AttachStdout",
    "attach_stderr": "AttachStderr",
    "exposed_ports": "ExposedPorts",
    "tty": "Tty",
    "open_stdin": "OpenStdin",
    "stdin_once": "StdinOnce",
    "env": "Env",
    "cmd": "Cmd",
    "healthcheck": "Healthcheck",
    "args_escaped": "ArgsEscaped",
    "image": "Image",
    "volumes": "Volumes",
    "working_dir": "WorkingDir",
    "entrypoint": "Entrypoint",
    "network_disabled": "NetworkDisabled",
    "mac_address": "MacAddress",
    "on_build": "OnBuild",
    "labels": "Labels",
    "stop_signal": "StopSignal",
    "stop_timeout": "StopTimeout",
    "shell": "Shell",
}


class HealthConfig(Struct, frozen=True, gc=False, forbid_unknown_fields=True, rename=_HEALTH_NAMES):
    """How to find out whether a container is healthy; durations in nanoseconds."""

    test: tuple[str, ...] | None = None
    interval: Int64 = 0
    timeout: Int64 = 0
    start_period: Int64 = 0
    start_interval: Int64 = 0
    retries: Int64 = 0


class ContainerConfig(
    Struct, frozen=True, gc=False, forbid_unknown_fields=True, rename=_CONTAINER_NAMES
):
    """How a container of the image is run; the fields are Docker's in snake case."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: NameSet | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: NameSet | None = None
    working_dir: str = ""
    entrypoint: tuple[str, ...] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: Int64 | None = None
    shell: tuple[str, ...] | None = None


class RootFS(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
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


class History(
    Struct, frozen=True, gc=False, forbid_unknown_fields=True, rename={"created_text": "created"}
):
    """One step of how the image was made, as the config tells it.

    `created_text` is the time as it is written there, RFC 3339 as Go takes it.
    """

    created_text: str | None = None
    author: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False

    @property
    def created_ns(self) -> int | None:
        """Return when the step was made, in nanoseconds since 1970, UTC; None if not said."""
        return None if self.created_text is None else parse_instant(self.created_text)

    @property
    def created(self) -> datetime | None:
        """Return when the step was made, cut to microseconds; None if not said."""
        created_ns = self.created_ns
        return None if created_ns is None else clock.to_datetime(created_ns)


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
    if hour > 23 or minute > 59 or second > 59:
        return None
    try:
        # Python has no year 0; four years later, a year of the same length stands in for it.
        days = date(year or 4, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    if year == 0:
        days -= 4 * 365 + 1
    seconds = days * 86400 + hour * 3600 + (minute - offset) * 60 + second
    nanoseconds = int(fraction[:9].ljust(9, "0")) if fraction else 0
    return seconds * clock.NANOSECONDS + nanoseconds
