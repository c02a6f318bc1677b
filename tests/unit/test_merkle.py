"""Hold the Merkle tree to the RFC's own words, to known vectors, and to whoever bends a proof."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.merkle import (
    EMPTY_ROOT,
    Checkpoint,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    pyramid,
    root_at,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The entries and roots that implementations of RFC 6962 test with (certificate-transparency's).
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def root(entries: list[bytes]) -> bytes:
    """Return the root as RFC 6962 defines it, in its own recursive words."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return sha256(b"\x01" + root(entries[:split]) + root(entries[split:])).digest()


class Log:
    """A log of numbered entries with the hashes of its whole powers of two."""

    def __init__(self, entries: list[bytes]) -> None:
        """Hash all of them."""
        self.entries = entries
        self.rows = pyramid([leaf_hash(entry) for entry in entries])

    def subtree(self, level: int, index: int) -> bytes:
        """Return a node."""
        return self.rows[level][index]

    def checkpoint(self, size: int) -> Checkpoint:
        """Return the checkpoint of the first entries."""
        return Checkpoint(size, root_at(size, self.subtree))


NUMBERED = Log([b"entry %d" % number for number in range(130)])


@pytest.mark.parametrize("size", range(9))
def test_the_known_roots(size: int) -> None:
    """The roots of the vectors that other implementations test with."""
    assert root_of(ENTRIES[:size]).hex() == ROOTS[size]
    assert Log(ENTRIES).checkpoint(size).root_hash.hex() == ROOTS[size]


def test_the_known_proofs() -> None:
    """Proofs of the vectors, written out by hand from the picture in RFC 9162, 2.1.5."""
    log = Log(ENTRIES[:7])
    a, b, c, d, e, f, j = log.rows[0]
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, rest = node_hash(g, h), node_hash(i, j)
    assert inclusion_path(0, 7, log.subtree) == [b, h, rest]
    assert inclusion_path(3, 7, log.subtree) == [c, g, rest]
    assert inclusion_path(4, 7, log.subtree) == [f, j, k]
    assert inclusion_path(6, 7, log.subtree) == [i, k]
    assert consistency_path(3, 7, log.subtree) == [c, d, g, rest]
    assert consistency_path(4, 7, log.subtree) == [rest]
    assert consistency_path(6, 7, log.subtree) == [i, j, k]


def test_every_root_is_that_of_the_definition() -> None:
    """Sizes up to 130."""
    for size in range(131):
        assert NUMBERED.checkpoint(size).root_hash == root(NUMBERED.entries[:size])
    assert NUMBERED.checkpoint(0).root_hash == EMPTY_ROOT


def test_every_proof_checks_and_is_as_short_as_it_can_be() -> None:
    """All entries of all sizes up to 65, and all pairs of sizes."""
    for size in range(1, 66):
        now = NUMBERED.checkpoint(size)
        for index in range(size):
            path = inclusion_path(index, size, NUMBERED.subtree)
            assert len(path) <= (size - 1).bit_length()
            assert verify_inclusion(now, index + 1, NUMBERED.rows[0][index], path)
        for old in range(size + 1):
            path = consistency_path(old, size, NUMBERED.subtree)
            assert len(path) <= (size - 1).bit_length() + 1
            assert verify_consistency(NUMBERED.checkpoint(old), now, path)


def flipped(content: bytes) -> list[bytes]:
    """Return the content once for each of its bits, with that bit flipped."""
    number, size = int.from_bytes(content, "big"), len(content)
    return [(number ^ 1 << bit).to_bytes(size, "big") for bit in range(8 * size)]


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 2), (2, 3), (5, 7), (6, 7), (40, 100)])
def test_no_flipped_bit_of_an_inclusion_proof_passes(index: int, size: int) -> None:
    """Each bit of the path, the leaf and the root, and every other place and size."""
    now, leaf = NUMBERED.checkpoint(size), NUMBERED.rows[0][index]
    path = inclusion_path(index, size, NUMBERED.subtree)
    assert verify_inclusion(now, index + 1, leaf, path)
    for at, step in enumerate(path):
        for bent in flipped(step):
            assert not verify_inclusion(now, index + 1, leaf, [*path[:at], bent, *path[at + 1 :]])
        assert not verify_inclusion(now, index + 1, leaf, path[:at] + path[at + 1 :])
        assert not verify_inclusion(now, index + 1, leaf, [*path[:at], step[:-1], *path[at + 1 :]])
    for bent in flipped(leaf):
        assert not verify_inclusion(now, index + 1, bent, path)
    for bent in flipped(now.root_hash):
        assert not verify_inclusion(Checkpoint(size, bent), index + 1, leaf, path)
    assert not verify_inclusion(now, index + 1, leaf, [*path, leaf])
    for other in range(-1, size + 2):
        assert other == index + 1 or not verify_inclusion(now, other, leaf, path)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (3, 4), (4, 7), (6, 7), (64, 100), (77, 130)])
def test_no_flipped_bit_of_a_consistency_proof_passes(old: int, new: int) -> None:
    """Each bit of the path and of both roots, steps left out, added and swapped."""
    before, after = NUMBERED.checkpoint(old), NUMBERED.checkpoint(new)
    path = consistency_path(old, new, NUMBERED.subtree)
    assert verify_consistency(before, after, path)
    for at, step in enumerate(path):
        for bent in flipped(step):
            assert not verify_consistency(before, after, [*path[:at], bent, *path[at + 1 :]])
        assert not verify_consistency(before, after, path[:at] + path[at + 1 :])
    for bent in flipped(before.root_hash):
        assert not verify_consistency(Checkpoint(old, bent), after, path)
    for bent in flipped(after.root_hash):
        assert not verify_consistency(before, Checkpoint(new, bent), path)
    assert not verify_consistency(before, after, [*path, path[0]])
    assert not verify_consistency(after, before, path)
    assert not verify_consistency(before, after, [])


def test_the_empty_log_is_the_start_of_all_and_of_no_other_root() -> None:
    """A checkpoint of nothing proves nothing, but may not lie either."""
    empty, some = NUMBERED.checkpoint(0), NUMBERED.checkpoint(5)
    assert verify_consistency(empty, some, [])
    assert not verify_consistency(Checkpoint(0, some.root_hash), some, [])
    assert not verify_consistency(empty, some, [some.root_hash])
    assert not verify_consistency(Checkpoint(-1, EMPTY_ROOT), some, [])
    assert verify_consistency(some, some, [])
    assert not verify_consistency(some, Checkpoint(5, EMPTY_ROOT), [])


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=40), st.data())
def test_no_other_log_has_a_proof(entries: list[bytes], data: st.DataObject) -> None:
    """An entry edited, dropped, swapped or inserted: no proof of the new log fits the old root."""
    old = data.draw(st.integers(1, len(entries)))
    at = data.draw(st.integers(0, old - 1))
    how = data.draw(st.sampled_from(["edit", "drop", "swap", "insert"]))
    bent = list(entries)
    if how == "edit":
        bent[at] += b"!"
    elif how == "drop":
        del bent[at]
    elif how == "insert":
        bent.insert(at, b"inserted")
    else:
        other = data.draw(st.integers(0, len(entries) - 1))
        bent[at], bent[other] = bent[other], bent[at]
    if bent[:old] == entries[:old] or len(bent) < old:
        return
    before, now = Log(entries).checkpoint(old), Log(bent)
    path = consistency_path(old, len(bent), now.subtree)
    assert not verify_consistency(before, now.checkpoint(len(bent)), path)
