"""Open everything that is no sound store of ours, and see that it is refused and left as it is.

    opening.py [--rounds N] [--only PART] [--weaken NAME]

What is at a path, and what comes of it: as users open it, with `read_only`, with `create=False`,
and by the command. `-` opens. A refusal is one error of ours, names the path, and leaves names,
bytes, modes and times as they were; LMDB's own `lock.mdb` may come beside a file of LMDB's.

    another format: newer, older, empty, missing, garbage   UnknownFormatError .found .supported
    no id, no time of making, half a fork                   CorruptionError
    an LMDB file of another program, or with some of our
      databases; of LMDB 1.0, of a machine of 32 bits       UnknownFormatError
    data.mdb of random bytes, zeros, SQLite, text, 1 byte;
      empty; cut short; a folder, pipe, socket, device;
      a link to what is not there                           CorruptionError
    data.mdb a link to another store's                      -, it is that store
    lock.mdb missing, garbage, of another size              -
    lock.mdb a folder, pipe, socket                         CorruptionError
    an empty folder, one with other files, with a leftover
      data.mdb.new of a process that was killed             - and a new store; StoreNotFoundError
    nothing                                                 - and a new store; StoreNotFoundError
    a file; an empty text; a NUL                            StoreUsageError
    below a file; a very long path; a loop of links         StoreIOError or StoreNotFoundError
    bytes, a path object, a relative path (also when the
      process goes elsewhere later)                         -
    a folder or file that may not be read or written        StoreIOError; see `strangers`
    a read-only file system                                 StoreIOError; with read_only: -
    a file system of the network                            StoreUsageError
    an overlay                                              -, and a line in the log
    the same store again in one process, by whatever name   StoreInUseError, until it is closed
    two processes that make one store at once               -, one store
    killed while it is made                                 as if nothing had been there, or whole
    removed, moved or replaced while it is open             reads answer; StoreLostError for writes

The exit code is 1 if anything is not as it must be. LMDB's own steps are cut in `crash_states.py`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from evidence import EnoughError, Evidence, with_own_mounts
from opening_cases import try_cases
from opening_races import try_kills, try_losses, try_makers, try_twice
from opening_strangers import try_mounts, try_strangers
from opening_weakenings import WEAKENINGS

PARTS = ("cases", "strangers", "mounts", "twice", "losses", "makers", "kills")


def main() -> int:
    """Attack, and print what was tried and found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50, help="of two makers, and of threads")
    parser.add_argument("--budget", type=int, default=1_000, help="kills, at most")
    parser.add_argument("--only", choices=PARTS, default=None, help="one part of the attack")
    parser.add_argument("--weaken", choices=sorted(WEAKENINGS), default=None)
    options = parser.parse_args()
    may_mount = with_own_mounts()
    if options.weaken is not None:
        WEAKENINGS[options.weaken]()
    evidence = Evidence(stop_at_first=options.weaken is not None)
    with tempfile.TemporaryDirectory(prefix="opening-") as top, suppress(EnoughError):
        folder = Path(top).resolve()
        folder.chmod(0o755)
        parts: dict[str, Callable[[], None]] = {
            "cases": partial(try_cases, folder, evidence),
            "strangers": partial(try_strangers, folder, evidence),
            "mounts": partial(try_mounts, folder, evidence, may_mount=may_mount),
            "twice": partial(
                try_twice, folder, evidence, may_mount=may_mount, rounds=options.rounds
            ),
            "losses": partial(try_losses, folder, evidence),
            "makers": partial(try_makers, folder, evidence, rounds=options.rounds),
            "kills": partial(try_kills, folder, evidence, budget=options.budget),
        }
        for name in (options.only,) if options.only else PARTS:
            parts[name]()
    return evidence.close(
        f"{options.rounds} rounds" + (f", weakened by {options.weaken}" if options.weaken else "")
    )


if __name__ == "__main__":
    raise SystemExit(main())
