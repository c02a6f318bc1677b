"""Tell the program's logging what happened, and load `logging` only when something did.

It takes a tenth of what the import of this library takes, and most programs never hear from us. The
loggers are those of the modules that speak, so a program's own settings hold as ever.
"""

from __future__ import annotations

import sys
from contextlib import suppress


class Notices:
    """The logger of one module, made when it is first needed."""

    def __init__(self, name: str) -> None:
        """Speak under the name of a module."""
        self._name = name

    def warning(self, text: str, *arguments: object) -> None:
        """Log a warning, which says what a user should know.

        Where no file can be opened, so that `logging` cannot be loaded, it goes to standard error,
        as `logging` does without a handler: what was done before stays done, and is no failure.
        """
        try:
            import logging
        except (ImportError, OSError):
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(text % arguments + "\n")
            return
        logging.getLogger(self._name).warning(text, *arguments, stacklevel=2)

    def info(self, text: str, *arguments: object) -> None:
        """Log what is only of use to those who asked for it, which needs `logging` loaded."""
        if "logging" in sys.modules:
            import logging

            logging.getLogger(self._name).info(text, *arguments, stacklevel=2)
