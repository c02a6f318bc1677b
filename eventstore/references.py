"""Read names of images by Docker's rules, those of `distribution/reference`.

A name is a repository with a tag or a digest. People write it in its familiar form, and it is
stored in its canonical one, in which nothing is left to a default::

    app                          docker.io/library/app:latest
    team/app:1.0                 docker.io/team/app:1.0
    index.docker.io/app          docker.io/library/app:latest
    localhost:5000/app@sha256:…  localhost:5000/app@sha256:…

What stands before the first slash is a host only if it has a dot, a colon or a capital, or is
`localhost`. Of a tag and a digest together the digest counts, whose content cannot change. What
looks like a whole image id is no name, so that no name can stand in an image's way.
"""

from __future__ import annotations

import re

from msgspec import Struct

from eventstore.errors import InvalidReferenceError

NAME_LENGTH_MAX = 480  # a key of the store has at most 511 bytes
PATH_LENGTH_MAX = 255
DEFAULT_DOMAIN, DEFAULT_TAG = "docker.io", "latest"
_LEGACY_DOMAIN, _OFFICIAL = "index.docker.io", "library"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_SHOWN_LENGTH_MAX = 80


class Reference(Struct, frozen=True):
    """A name in its parts.

    Attributes:
        domain: the host of the registry.
        path: the repository on it.
        tag: the tag, None where a digest stands in its place.
        digest: the digest, None where a tag stands in its place.
    """

    domain: str
    path: str
    tag: str | None
    digest: str | None

    @property
    def canonical(self) -> str:
        """Return the form in which nothing is left out."""
        return f"{self.domain}/{self.path}{self._suffix}"

    @property
    def familiar(self) -> str:
        """Return the shortest form that means the same; a tag is always shown."""
        if self.domain != DEFAULT_DOMAIN:
            return self.canonical
        short = self.path
        parts = self.path.split("/")
        if len(parts) == 2 and parts[0] == _OFFICIAL:
            short = parts[1]
        # A repository that is called as a host would be taken for one.
        kept = _split(short) == (self.domain, self.path)
        return f"{short}{self._suffix}" if kept else self.canonical

    @property
    def repository(self) -> str:
        """Return the familiar form without tag and digest."""
        return self.familiar.removesuffix(self._suffix)

    @property
    def _suffix(self) -> str:
        return f":{self.tag}" if self.digest is None else f"@{self.digest}"


def parse(text: str) -> Reference:
    """Return the parts of a name, what it leaves to a default filled in.

    Raises:
        InvalidReferenceError: Docker would refuse it, or it is longer than `NAME_LENGTH_MAX`.
    """
    if not isinstance(text, str):
        raise InvalidReferenceError(repr(text)[:_SHOWN_LENGTH_MAX], "a name is text")
    if len(text) > NAME_LENGTH_MAX:
        raise _invalid(text, f"it is longer than {NAME_LENGTH_MAX} characters")
    if _IMAGE_ID.fullmatch(text):
        raise _invalid(text, "what looks like an image id is no name")
    named, at, digest = text.partition("@")
    domain, remainder = _split(named)
    path, colon, tag = remainder.partition(":")
    if path != path.lower():
        raise _invalid(text, "a repository is written in lower case")
    if not (_DOMAIN.fullmatch(domain) and _PATH.fullmatch(path)):
        raise _invalid(text, "it is not of the form [host/]repository[:tag][@digest]")
    if len(path) > PATH_LENGTH_MAX:
        raise _invalid(text, f"its repository is longer than {PATH_LENGTH_MAX} characters")
    if (domain, path) == (DEFAULT_DOMAIN, f"{_OFFICIAL}/sha256"):
        # So does the reference store of Docker's daemon.
        raise _invalid(
            text, "a repository that is called as the digests are would be taken for one"
        )
    if colon and not _TAG.fullmatch(tag):
        raise _invalid(text, "its tag is none")
    if at and not _DIGEST.fullmatch(digest):
        raise _invalid(text, "its digest is none")
    shown = None if at else tag or DEFAULT_TAG
    found = Reference(domain, path, shown, digest if at else None)
    if len(found.canonical) > NAME_LENGTH_MAX:
        raise _invalid(text, f"it is longer than {NAME_LENGTH_MAX} characters")
    return found


def canonical(text: str) -> str:
    """Return the canonical form of a name.

    Raises:
        InvalidReferenceError: it is none.
    """
    return parse(text).canonical


def familiar(text: str) -> str:
    """Return the familiar form of a name, as people write it.

    Raises:
        InvalidReferenceError: it is none.
    """
    return parse(text).familiar


def shown(name: str) -> str:
    """Return the familiar form of a stored name; of what is none by today's rules, itself."""
    try:
        return familiar(name)
    except InvalidReferenceError:
        return name


def _split(named: str) -> tuple[str, str]:
    """Return the host and the rest, as Docker's `splitDockerDomain`."""
    first, slash, rest = named.partition("/")
    is_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    domain, remainder = (first, rest) if slash and is_host else (DEFAULT_DOMAIN, named)
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = f"{_OFFICIAL}/{remainder}"
    return domain, remainder


def _invalid(text: str, reason: str) -> InvalidReferenceError:
    more = "…" if len(text) > _SHOWN_LENGTH_MAX else ""
    return InvalidReferenceError(text[:_SHOWN_LENGTH_MAX] + more, reason)
