"""Run the command: `python -m eventstore`, and the script `eventstore`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_NEEDED = ("click", "dateparser", "humanize", "rich")


def main() -> int:
    """Run the command and return its exit code; say in one line if its extra is not installed.

    All of the extra is looked for first, though a command loads only what it uses: none may find
    out half way that it cannot print what it has done.
    """
    try:
        for name in _NEEDED:
            if find_spec(name) is None:
                raise ModuleNotFoundError(name=name)
        from eventstore.cli.main import run
    except KeyboardInterrupt:
        print("eventstore: interrupted; nothing was done yet", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        print(
            f"eventstore: the command needs {error.name!r}: "
            "install it with  pip install 'image-eventstore[cli]'",
            file=sys.stderr,
        )
        return 3
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
