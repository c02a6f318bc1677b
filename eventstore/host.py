"""Say who and where this process is: the default actor and operating system."""

from __future__ import annotations

import os
import platform

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def default_actor() -> str:
    """Return `user@host`, with the numeric user id where the user has no name."""
    try:
        import getpass  # only here: who names an actor need not wait for it

        user = getpass.getuser()
    except (KeyError, ImportError, OSError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    text = f"{user}@{platform.node()}"
    return text.encode("utf-8", "replace").decode("utf-8")


def runs(image_os: str, system: str) -> bool:
    """Tell whether a host runs the images of an operating system, as Docker judges it.

    Case does not count, and an image that names none is taken for the host's own.

    Args:
        image_os: what the image's config says, perhaps nothing.
        system: the host's operating system.
    """
    return not image_os or image_os.casefold() == system.casefold()


def architecture() -> str:
    """Return the name that image configs give to this host's processor."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def operating_system() -> str:
    """Return the name that image configs give to this host's operating system."""
    return platform.system().lower() or "linux"
