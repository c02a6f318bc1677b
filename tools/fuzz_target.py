"""What every target of the fuzzer is: inputs to begin with, an attack, mutations; what must be."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from fuzz_mutations import TEXTS, Codec, mutate_as_tree, mutate_bytes

TEXT_TOKENS = tuple(text.encode("utf-8", "surrogatepass") for text in TEXTS)


class Violation(Exception):  # noqa: N818 (it is a finding, not an error of this tool)
    """What must not be."""


def must(holds: bool, what: str) -> None:
    """Raise `Violation` unless something holds."""
    if not holds:
        raise Violation(what)


def must_show(line: str) -> None:
    """Raise `Violation` if a line that is printed holds what is no visible character."""
    for character in line:
        category = unicodedata.category(character)
        must(category[0] not in "CZ" or category == "Zs", f"printed as it is: {character!a}")


class Target:
    """One door; subclasses say how to make it and what to ask.

    Attributes:
        name: as the command line names it.
        share: how many executions it gets in comparison with others.
        tokens: pieces that inputs are made of.
        codec: reads an input as a tree and writes it; None where there is none.
    """

    name = ""
    share = 1
    tokens: Sequence[bytes] = TEXT_TOKENS
    codec: Codec | None = None

    def __init__(self, folder: Path) -> None:
        """Make what is attacked in an empty folder."""
        self.folder = folder

    def seeds(self) -> list[bytes]:
        """Return inputs to begin with."""
        return [b""]

    def attack(self, data: bytes) -> None:
        """Let one input in; raise if the door does what it must not."""
        raise NotImplementedError

    def mutate(self, data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
        """Return an input like another."""
        if self.codec is not None and chance.random() < 0.5:
            changed = mutate_as_tree(data, chance, self.codec)
            if changed is not None:
                return changed
        return mutate_bytes(data, chance, self.tokens, others)
