"""Parse ids, and find images by prefix, held against a model written from Docker's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import AmbiguousDigestError, ImageNotFoundError, digest, digest_set
from eventstore.digest_set import CANDIDATES_MAX, PIECE_LENGTH, DigestSet, first_of
from strategies import digests

GOOD = "sha256:" + "0a" * 32
BAD = [
    "",
    "sha256:",
    "0a" * 32,
    "sha256:" + "0A" * 32,
    "SHA256:" + "0a" * 32,
    "sha512:" + "0a" * 32,
    GOOD[:-1],
    GOOD + "0",
    GOOD + "\n",
    " " + GOOD[1:],
    GOOD[:-1] + "g",
    GOOD[:-1] + "٣",
    GOOD[:-1] + "\0",
    GOOD[:-2] + "  ",
    GOOD[:7] + "\n " + GOOD[9:],
    GOOD.replace(":", " "),
    "0a" * 3 + "0:" + "0a" * 32,
    GOOD[:-1] + "\ud800",
    "x" * 1_000_000,
]


@given(digests)
def test_text_and_bytes_are_inverses(raw: bytes) -> None:
    """Every 32 bytes have one text, and it gives them back."""
    assert digest.parse(digest.to_text(raw)) == raw
    assert digest.short(digest.to_text(raw)) == raw.hex()[:12]


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_what_is_no_id_is_none_and_names_no_image(text: str) -> None:
    """Nothing is trimmed, folded or completed."""
    assert digest.parse(text) is None
    with pytest.raises(ImageNotFoundError) as caught:
        digest.require(text)
    assert caught.value.term == text


@pytest.mark.parametrize("value", [None, 5, b"sha256:", ["sha256"]])
def test_what_is_no_text_names_no_image(value: object) -> None:
    """A wrong type is an error of ours, not an AttributeError."""
    with pytest.raises(ImageNotFoundError):
        digest.require(value)  # type: ignore[arg-type]


def test_the_digest_is_sha_256() -> None:
    """The empty input has the well-known digest of FIPS 180-4."""
    assert digest.digest_of(b"").hex() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def model_lookup(members: set[bytes], term: str) -> bytes | type[LookupError]:
    """Say what Docker's `digestset.Lookup` answers, by going through all members."""
    digits = term.removeprefix("sha256:")
    if term == "sha256:" or not set(digits) <= set("0123456789abcdef"):
        return ImageNotFoundError
    found = [member for member in members if member.hex().startswith(digits)]
    if len(found) == 1:
        return found[0]
    return AmbiguousDigestError if found else ImageNotFoundError


def crowded(draw: st.DrawFn) -> bytes:
    """Draw a digest out of few, so that prefixes collide."""
    return bytes(draw(st.lists(st.sampled_from([0, 1, 16, 255]), min_size=2, max_size=2))) + bytes(
        30
    )


@st.composite
def members_and_terms(draw: st.DrawFn) -> tuple[set[bytes], list[str]]:
    """Draw members that share beginnings, and terms around them."""
    members = {crowded(draw) for _ in range(draw(st.integers(0, 12)))}
    terms: list[str] = draw(st.lists(st.text("0123456789abcdefABF:sg", max_size=5), max_size=5))
    for member in sorted(members):
        length = draw(st.integers(0, 66))
        terms.append(draw(st.sampled_from(["", "sha256:"])) + (member.hex() + "00")[:length])
    return members, terms


def test_no_text_of_a_hostile_length_is_held() -> None:
    """A diff id of a config may be megabytes long; only what has an id's length is kept."""
    kept = digest._parse.cache_info().currsize
    for number in range(100):
        assert digest.parse(f"sha256:{number:065x}") is None
    assert digest._parse.cache_info().currsize == kept


def lookup(members: DigestSet, term: str) -> bytes:
    """Look a term up in a set."""
    return digest_set.lookup(term, lambda low, high: first_of(members.between(low, high)))


@given(members_and_terms())
def test_lookup_answers_as_the_model(drawn: tuple[set[bytes], list[str]]) -> None:
    """Any set, any term: the one match, none, or the candidates."""
    members, terms = drawn
    tested = DigestSet(members)
    for term in terms:
        expected = model_lookup(members, term)
        if isinstance(expected, bytes):
            assert lookup(tested, term) == expected
            continue
        with pytest.raises(expected) as caught:
            lookup(tested, term)
        if isinstance(caught.value, AmbiguousDigestError):
            digits = term.removeprefix("sha256:")
            assert len(caught.value.candidates) > 1
            assert all(c[7:].startswith(digits) for c in caught.value.candidates)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=200))
def test_adding_and_removing_keep_the_set_sorted_and_whole(steps: list[tuple[bool, int]]) -> None:
    """After any steps it is the set that Python's own would be."""
    tested, model = DigestSet(), set[bytes]()
    for adds, number in steps:
        value = number.to_bytes(32, "big")
        if adds:
            tested.add(value)
            model.add(value)
        else:
            tested.remove(value)
            model.discard(value)
        assert list(tested) == sorted(model)
        assert len(tested) == len(model)
        assert (value in tested) == adds


def test_pieces_split_and_vanish_without_losing_a_digest() -> None:
    """Many more than fit one piece, added in the worst order, and removed again."""
    values = [digest.digest_of(str(number).encode()) for number in range(3 * PIECE_LENGTH)]
    tested = DigestSet()
    for value in sorted(values):
        tested.add(value)
        # Whatever the order of adding, a step moves a bounded number of digests.
        assert max(map(len, tested._pieces)) <= 2 * PIECE_LENGTH
    assert list(tested) == sorted(values)
    for value in values:
        assert lookup(tested, value.hex()) == value
        tested.remove(value)
    assert len(tested) == 0
    with pytest.raises(ImageNotFoundError):
        lookup(tested, "")


def test_candidates_are_bounded() -> None:
    """The empty term over a large set names some, not all."""
    tested = DigestSet(digest.digest_of(str(number).encode()) for number in range(5_000))
    with pytest.raises(AmbiguousDigestError) as caught:
        lookup(tested, "")
    assert len(caught.value.candidates) == CANDIDATES_MAX
