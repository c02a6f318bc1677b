"""Encode any record and read it back; damage any of its bytes and fail to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import CorruptionError, codec, digest
from eventstore.events import Record, pack_chain, unpack_chain
from strategies import digests, records, texts


@given(records())
def test_a_record_survives_the_round_trip(record: Record) -> None:
    """Every field comes back, and `raw` is exactly what was stored."""
    again = codec.decode(record.position, record.raw)
    assert again == record
    assert again.raw == record.raw


@given(records())
def test_reencoding_gives_the_same_bytes(record: Record) -> None:
    """There is one way to write a record, so bytes can be compared."""
    again = codec.encode(
        record.position,
        time_ns=record.time_ns,
        actor=record.actor,
        reason=record.reason,
        batch=record.batch,
        previous=record.previous,
        event=record.event,
    )
    assert again.raw == record.raw


@given(records(), st.data())
def test_any_flipped_bit_is_found(record: Record, data: st.DataObject) -> None:
    """No single bit of a stored record can change unseen."""
    bit = data.draw(st.integers(0, len(record.raw) * 8 - 1))
    damaged = bytearray(record.raw)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptionError) as caught:
        codec.decode(record.position, bytes(damaged))
    assert caught.value.position == record.position


@given(records(), st.data())
def test_a_record_that_is_cut_or_has_more_bytes_is_found(
    record: Record, data: st.DataObject
) -> None:
    """Length is checked by the checksum as well."""
    kept = data.draw(st.integers(0, len(record.raw) - 1))
    more = data.draw(st.binary(min_size=1, max_size=8))
    for damaged in (record.raw[:kept], record.raw + more):
        with pytest.raises(CorruptionError):
            codec.decode(record.position, damaged)


@given(records(), st.integers(1, 2**63 - 1))
def test_a_record_under_another_position_is_found(record: Record, other: int) -> None:
    """Two records cannot be exchanged: the checksum covers the position."""
    if other != record.position:
        with pytest.raises(CorruptionError):
            codec.decode(other, record.raw)


@given(st.binary(max_size=200))
def test_random_bytes_are_an_error_of_ours(raw: bytes) -> None:
    """Whatever lies in the log, nothing foreign escapes, even if the checksum fits."""
    with pytest.raises(CorruptionError):
        codec.decode(1, raw)
    checksum = codec.crc32(raw, codec.crc32(codec.position_key(1))).to_bytes(4, "big")
    try:
        codec.decode(1, raw + checksum)
    except CorruptionError as error:
        assert error.position == 1


@given(st.one_of(digests.map(digest.to_text), texts))
def test_chain_ids_survive_packing(chain_id: str) -> None:
    """A digest takes 33 bytes, any other text itself and one byte."""
    packed = pack_chain(chain_id)
    assert unpack_chain(packed) == chain_id
    assert (len(packed) == 33) or packed[0] == 0


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_key_order_is_log_order(a: int, b: int) -> None:
    """LMDB sorts keys as bytes; positions must come out in their order."""
    assert (codec.position_key(a) < codec.position_key(b)) == (a < b)
