"""The image store that remembers: container-image metadata as an event log."""

from eventstore.diff import ImageChange, ViewDiff
from eventstore.errors import (
    AmbiguousDigestError,
    CorruptionError,
    DestinationExistsError,
    EventStoreError,
    ImageNotFoundError,
    InvalidImageError,
    InvalidParentError,
    LayerMissingError,
    LayerNotFoundError,
    MassDeleteError,
    PastChangedError,
    ProofError,
    SourceError,
    StoreClosedError,
    StoreForkedError,
    StoreFullError,
    StoreInUseError,
    StoreIOError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUsageError,
    UnknownFormatError,
    UnsupportedOSError,
)
from eventstore.events import (
    Created,
    Deleted,
    Event,
    LastUpdatedSet,
    MarkedBuilt,
    ParentSet,
    Record,
)
from eventstore.image import ContainerConfig, History, Image, RootFS
from eventstore.layers import (
    DockerLayerDB,
    Layer,
    LayerMetadata,
    LayerStore,
    MemoryLayerStore,
)
from eventstore.merkle import Checkpoint, leaf_hash, verify_consistency, verify_inclusion
from eventstore.meta import Fork
from eventstore.restore import restore
from eventstore.salvage import SalvageReport, salvage
from eventstore.snapshots import SnapshotInfo
from eventstore.store import ImageStore
from eventstore.verify import Problem, check_store
from eventstore.view import ImageMap, ImageView
from eventstore.writer import StoreTransaction

__all__ = [
    "AmbiguousDigestError",
    "Checkpoint",
    "ContainerConfig",
    "CorruptionError",
    "Created",
    "Deleted",
    "DestinationExistsError",
    "DockerLayerDB",
    "Event",
    "EventStoreError",
    "Fork",
    "History",
    "Image",
    "ImageChange",
    "ImageMap",
    "ImageNotFoundError",
    "ImageStore",
    "ImageView",
    "InvalidImageError",
    "InvalidParentError",
    "LastUpdatedSet",
    "Layer",
    "LayerMetadata",
    "LayerMissingError",
    "LayerNotFoundError",
    "LayerStore",
    "MarkedBuilt",
    "MassDeleteError",
    "MemoryLayerStore",
    "ParentSet",
    "PastChangedError",
    "Problem",
    "ProofError",
    "Record",
    "RootFS",
    "SalvageReport",
    "SnapshotInfo",
    "SourceError",
    "StoreClosedError",
    "StoreForkedError",
    "StoreFullError",
    "StoreIOError",
    "StoreInUseError",
    "StoreNotFoundError",
    "StoreReadOnlyError",
    "StoreTransaction",
    "StoreUsageError",
    "UnknownFormatError",
    "UnsupportedOSError",
    "ViewDiff",
    "check_store",
    "leaf_hash",
    "restore",
    "salvage",
    "verify_consistency",
    "verify_inclusion",
]
