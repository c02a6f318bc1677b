"""Draw events, records and images as hypothesis strategies."""

from __future__ import annotations

from hypothesis import strategies as st

from eventstore import clock, codec
from eventstore.events import (
    Created,
    Deleted,
    Described,
    Event,
    LastUpdatedSet,
    Manifest,
    ManifestLayer,
    MarkedBuilt,
    ParentSet,
    Record,
    Redacted,
    Tagged,
    Untagged,
    pack_chain,
)

digests = st.binary(min_size=32, max_size=32)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
instants = st.integers(clock.STORED_MIN_NS, clock.STORED_MAX_NS)
names = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=40)
befores = st.integers(0, 2**63 - 1)
positions = st.integers(1, 2**63 - 1)
chains = st.one_of(
    st.none(),
    digests.map(lambda raw: b"\x01" + raw),
    texts.map(pack_chain),
)
sizes = st.integers(0, 2**63 - 1)
layers = st.builds(ManifestLayer, names, digests.map(lambda raw: b"\x01" + raw), sizes)
manifests = st.builds(Manifest, digests, names, sizes, st.lists(layers, max_size=3).map(tuple))
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Created, digests, chains, texts),
    st.builds(ParentSet, digests, st.one_of(st.none(), digests)),
    st.builds(LastUpdatedSet, digests, instants),
    st.builds(MarkedBuilt, digests),
    st.builds(Deleted, digests),
    st.builds(Redacted, digests),
    st.builds(Described, digests, manifests),
    st.builds(Tagged, digests, names, befores),
    st.builds(Untagged, digests, names, befores),
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Draw a record with any envelope that the format can hold."""
    return codec.encode(
        draw(positions),
        time_ns=draw(st.integers(0, 2**63 - 1)),
        actor=draw(texts),
        reason=draw(texts),
        batch=draw(positions),
        previous=draw(st.integers(0, 2**63 - 1)),
        event=draw(events),
    )
