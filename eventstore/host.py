"""Say who and where this process is: the default actor and operating system."""

from __future__ import annotations

import getpass
import os
import platform
import socket


def default_actor() -> str:
    """Return `user@host`, with the numeric user id where the user has no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    text = f"{user}@{socket.gethostname()}"
    return text.encode("utf-8", "replace").decode("utf-8")


def operating_system() -> str:
    """Return the name that image configs give to this host's operating system."""
    return platform.system().lower() or "linux"
