"""Read the images of a running Docker daemon over its socket.

The daemon says over its API which images it lists, their parents and names, and of each its last
update. It gives the exact bytes of a config only together with the layers, as `docker save` does.
So the config of an image that the store has, or ever had, is taken from there; each other image is
exported once, and its layers are skipped as they come. The daemon may write all of these layers
to its temporary folder first, one image at a time. The built mark is not told, and stays as it is.

A daemon that keeps its images in containerd's store is refused: an id there is the digest of a
manifest or of an index for several platforms, not of a config, and equals nothing that is kept
here. What does not count, or not as the daemon has it, is reported under one of these kinds::

    not-a-digest             an image whose id is no SHA-256 in hex
    duplicate-entry          an image that is listed more than once; the first counts
    export-failed            the daemon does not export the image, or not as a tar with its config
    digest-mismatch          the exported config is not what its name says
    invalid-config           the exported config is none that Docker can decode
    inspect-failed           the daemon does not say when it was updated; that stays as it is
    last-updated-invalid     it says so with what is no time; the image counts without a last update
    parent-invalid           the parent is no image id; the image counts, without a parent
    parent-missing           the parent is not listed; the same
    parent-cycle             the image is its own ancestor; the same
    name-invalid             a name that is none by Docker's rules
    name-twice               a name that several images have; it is that of the last one

What is known of an image whose config cannot be had stays. An image that is removed while all this
is read does not count. Answers are bounded in size, and an error on the way is one of the whole
source, so that nothing is taken for gone because the daemon was. `requests`, which `docker` stands
on, makes all of its errors OSErrors.
"""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from eventstore import digest, go_json
from eventstore.errors import (
    InvalidImageError,
    SourceError,
    StoreUsageError,
)
from eventstore.go_json import GoJSONError, Kind
from eventstore.image import CONFIG_SIZE_MAX, Image
from eventstore.progress import Progress, counted
from eventstore.sources import parents, saved_config
from eventstore.sources.found import (
    CONFIGS_SIZE_MAX,
    ConfigOf,
    Findings,
    PassedOver,
    SourceImage,
    last_update,
    printable,
    take_name,
    unknown,
)
from eventstore.sources.saved_config import NoTarError

if TYPE_CHECKING:
    from docker import APIClient

PREFIX = "docker://"
DEFAULT_SOCKET = "/var/run/docker.sock"
ANSWER_SIZE_MAX = 1 << 26
PATIENCE_SECONDS = 600
"""How long the daemon may be silent; before an export it writes all layers of the image."""
_PART_SIZE = 1 << 20
_OK, _NOT_FOUND = 200, 404
_CONTAINERD = "io.containerd."
_NO_NAME = "<none>"
_texts = go_json.list_of(go_json.string, str)
_listed = go_json.list_of(
    go_json.struct_of(
        {
            "Id": ("id", go_json.string),
            "ParentId": ("parent", go_json.string),
            "RepoTags": ("tags", _texts),
            "RepoDigests": ("digests", _texts),
        }
    ),
    dict,
)
_metadata = go_json.struct_of({"LastTagTime": ("last_updated", go_json.string)})
_inspected = go_json.struct_of({"Metadata": ("metadata", _metadata)})
_told = go_json.struct_of({"DriverStatus": ("status", go_json.list_of(_texts, tuple))})
_message = go_json.struct_of({"message": ("message", go_json.string)})


class DockerDaemon:
    """The images of the daemon behind one socket."""

    def __init__(self, socket_path: str = DEFAULT_SOCKET) -> None:
        """Read from the daemon that listens on a Unix socket."""
        self._socket_path = socket_path
        self.path = PREFIX + socket_path

    @classmethod
    def find(cls, source: str) -> DockerDaemon:
        """Find the daemon that an address names, and see that it can be spoken to.

        Args:
            source: `docker://` for the usual socket, or `docker:///PATH` for another one.

        Raises:
            SourceError: it names no socket, nobody listens there, or this user may not speak to it.
            StoreUsageError: `docker` is not installed.
        """
        path = source.removeprefix(PREFIX)
        if path and not path.startswith("/"):
            raise SourceError(source, "names no socket: give docker:// or docker:///PATH")
        found = cls(path or DEFAULT_SOCKET)
        found._reach()
        found._open().close()
        return found

    def read(
        self,
        *,
        operating_system: str | None = None,
        config_of: ConfigOf = unknown,
        progress: Progress | None = None,
    ) -> Findings:
        """Read all images and what is known of them.

        Args:
            operating_system: of no use here: the daemon lists what its host runs.
            config_of: gives the config of an image that is known, which is then not exported; an
                empty one, of an image whose config was redacted, is as good.
            progress: is told of how many images are read.

        Raises:
            SourceError: the daemon does not answer, not in full, or not with what it should.
            StoreUsageError: `docker` is not installed.
        """
        with closing(self._open()) as client:
            talk = _Talk(client, self.path)
            if talk.keeps_manifests():
                raise SourceError(
                    self.path,
                    "keeps its images in containerd's store, where an id is not that of a config",
                )
            return _Reading(talk, config_of).findings(progress)

    def _reach(self) -> None:
        """See that somebody listens; what goes wrong is said in the system's own words."""
        try:
            with socket.socket(socket.AF_UNIX) as found:
                found.settimeout(PATIENCE_SECONDS)
                found.connect(self._socket_path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise SourceError(self.path, f"no Docker daemon listens there: {error}") from error
        except (OSError, ValueError) as error:
            raise SourceError(self.path, f"cannot be spoken to: {error}") from error

    def _open(self) -> APIClient:
        try:
            from docker.constants import DEFAULT_DOCKER_API_VERSION
            from docker.errors import DockerException

            from docker import APIClient
        except ImportError as error:
            raise StoreUsageError(
                "a Docker daemon needs the package docker: install image-eventstore[docker]"
            ) from error
        try:
            # With a version given it asks nothing on its own; the questions below name none.
            return APIClient(
                f"unix://{self._socket_path}", DEFAULT_DOCKER_API_VERSION, PATIENCE_SECONDS
            )
        except (DockerException, OSError, ValueError) as error:
            raise SourceError(self.path, printable(f"cannot be spoken to: {error}")) from error


class _FailedError(Exception):
    """The daemon refuses one question.

    Attributes:
        gone: whether what was asked about is not there.
    """

    def __init__(self, detail: str, *, gone: bool) -> None:
        self.gone = gone
        super().__init__(detail)


class _Talk:
    """Questions to a daemon, and its answers, as far as they are believed."""

    def __init__(self, client: APIClient, path: str) -> None:
        self._client = client
        self._path = path

    def keeps_manifests(self) -> bool:
        """Tell whether the daemon keeps its images in containerd's store.

        Raises:
            SourceError: it does not say.
        """
        try:
            answer: dict[str, Any] = self.ask("/info", _told) or {}
        except _FailedError as error:
            raise self.error(f"does not say how it keeps its images: {error}") from error
        status: tuple[tuple[str, ...], ...] = answer.get("status") or ()
        return any(text.startswith(_CONTAINERD) for pair in status for text in pair or ())

    def ask(self, question: str, kind: Kind) -> Any:
        """Return what the daemon answers.

        Raises:
            _FailedError: it refuses.
            SourceError: it does not answer, or not with what it should.
        """
        raw = bytearray()
        for part in self.stream(question):
            raw += part
            if len(raw) > ANSWER_SIZE_MAX:
                raise self.error(f"answers with more than {ANSWER_SIZE_MAX} bytes")
        try:
            return kind(go_json.parse(bytes(raw)), None)
        except GoJSONError as error:
            raise self.error(f"does not answer as Docker does: {error}") from error

    def stream(self, question: str) -> Generator[bytes, None, None]:
        """Iterate over what the daemon answers, as it comes; ends with the iterator.

        Raises:
            _FailedError: it refuses.
            SourceError: it does not answer, or stops in the middle.
        """
        try:
            with closing(
                self._client.get(
                    f"{self._client.base_url}{question}",
                    headers={"Accept-Encoding": "identity"},
                    stream=True,
                    timeout=PATIENCE_SECONDS,
                    allow_redirects=False,
                )
            ) as response:
                if response.status_code != _OK:
                    said = next(response.iter_content(_PART_SIZE), b"")
                    gone = response.status_code == _NOT_FOUND
                    raise _FailedError(f"{response.status_code}: {_said(said)}", gone=gone)
                yield from response.iter_content(_PART_SIZE)
        except (OSError, ValueError) as error:
            raise self.error(f"stopped answering: {error}") from error

    def error(self, message: str) -> SourceError:
        return SourceError(self._path, printable(message))


class _Reading:
    """One reading of a daemon's images."""

    def __init__(self, talk: _Talk, config_of: ConfigOf) -> None:
        self._talk = talk
        self._config_of = config_of
        self._room = CONFIGS_SIZE_MAX
        self._passed_over: list[PassedOver] = []
        self._unsure: set[str] = set()

    def findings(self, progress: Progress | None) -> Findings:
        """Read everything."""
        try:
            listed: tuple[dict[str, Any] | None, ...] = (
                self._talk.ask("/images/json?all=1", _listed) or ()
            )
        except _FailedError as error:
            raise self._talk.error(f"does not list its images: {error}") from error
        images: dict[str, SourceImage] = {}
        names: dict[str, str] = {}
        seen: set[str] = set()
        for each in counted(listed, progress, len(listed)):
            entry = each or {}
            image_id: str = entry.get("id") or ""
            if digest.parse(image_id) is None:
                self._pass_over("not-a-digest", repr(image_id[:80]), "its id is no SHA-256 in hex")
            elif image_id in seen:
                self._pass_over("duplicate-entry", image_id, "it is listed again")
            elif self._take(image_id, entry, images):
                self._name(image_id, entry, names)
            seen.add(image_id)
        parents.check(images, self._unsure, self._pass_over)
        return Findings([images[image_id] for image_id in sorted(images)], self._passed_over, names)

    def _take(self, image_id: str, entry: dict[str, Any], images: dict[str, SourceImage]) -> bool:
        """Take an image or pass over it; tell whether it is there at all."""
        told, updated = True, None
        try:
            told, updated = self._last_updated(image_id)
        except _FailedError as error:
            if error.gone:
                return False
            told = False
            self._pass_over("inspect-failed", image_id, str(error))
        try:
            config = self._config_of(image_id)
            if config is None:
                config = self._exported(image_id)
        except _FailedError as error:
            if error.gone or self._gone(image_id):
                return False
            self._pass_over("export-failed", image_id, str(error), unsure=True)
        except InvalidImageError as error:
            self._pass_over("invalid-config", image_id, error.reason, unsure=True)
        else:
            if config is not None:
                images[image_id] = SourceImage(
                    image_id,
                    config,
                    parent=self._parent(image_id, entry.get("parent") or ""),
                    last_updated_ns=updated,
                    built_locally=None,
                    tells_last_updated=told,
                )
        return True

    def _last_updated(self, image_id: str) -> tuple[bool, int | None]:
        """Return whether a last update is told, and it.

        Raises:
            _FailedError: the daemon refuses.
        """
        answer: dict[str, Any] = self._talk.ask(f"/images/{image_id}/json", _inspected) or {}
        metadata: dict[str, Any] = answer.get("metadata") or {}
        text: str | None = metadata.get("last_updated")
        if not text:
            return False, None
        try:
            return True, last_update(text)
        except ValueError as error:
            self._pass_over("last-updated-invalid", image_id, str(error))
            return True, None

    def _gone(self, image_id: str) -> bool:
        """Tell whether an image is not there any more; an old daemon says so in no other way."""
        try:
            self._last_updated(image_id)
        except _FailedError as error:
            return error.gone
        return False

    def _exported(self, image_id: str) -> bytes | None:
        """Return the config of an image from its export; None if it was passed over.

        Raises:
            _FailedError: the daemon refuses, or exports no such config.
            InvalidImageError: it is no config.
        """
        try:
            with closing(self._talk.stream(f"/images/{image_id}/get")) as parts:
                config = saved_config.find(parts, image_id, CONFIG_SIZE_MAX)
        except NoTarError as error:
            raise _FailedError(str(error), gone=False) from error
        if config is None:
            raise _FailedError("its config is not in the archive", gone=False)
        found = digest.to_text(digest.digest_of(config))
        if found != image_id:
            self._pass_over("digest-mismatch", image_id, f"its config is {found}", unsure=True)
            return None
        Image.from_checked(config, image_id)
        self._room -= len(config)
        if self._room < 0:
            raise self._talk.error(f"has more than {CONFIGS_SIZE_MAX} bytes of configs")
        return config

    def _parent(self, image_id: str, parent: str) -> str | None:
        if parent and digest.parse(parent) is None:
            self._pass_over("parent-invalid", image_id, f"{parent[:80]!r} is no image id")
            return None
        return parent or None

    def _name(self, image_id: str, entry: dict[str, Any], names: dict[str, str]) -> None:
        """Take the names of an image; an image without one has some that say so."""
        for text in (*(entry.get("tags") or ()), *(entry.get("digests") or ())):
            if _NO_NAME not in text:
                take_name(text, image_id, names, self._pass_over)

    def _pass_over(self, kind: str, name: str, detail: str, *, unsure: bool = False) -> None:
        if unsure:
            self._unsure.add(name)
        self._passed_over.append(PassedOver(kind, printable(name), printable(detail), unsure))


def _said(answer: bytes) -> str:
    """Return what an answer that is an error says, as far as it is one of Docker's."""
    try:
        said: dict[str, Any] = _message(go_json.parse(answer), None) or {}
    except GoJSONError:
        return "no more is said"
    return said.get("message") or "no more is said"
