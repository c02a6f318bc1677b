"""Read names as Docker's `distribution/reference` does; the cases are those of its own tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import InvalidReferenceError, references

DIGEST = "sha256:" + "0123456789abcdef" * 4
LONG = "a/" * 128 + "a"
FORMS = (
    ("app", "docker.io/library/app:latest", "app:latest"),
    ("app:1.0", "docker.io/library/app:1.0", "app:1.0"),
    ("team/app", "docker.io/team/app:latest", "team/app:latest"),
    ("library/app", "docker.io/library/app:latest", "app:latest"),
    ("docker.io/app", "docker.io/library/app:latest", "app:latest"),
    ("index.docker.io/app:x", "docker.io/library/app:x", "app:x"),
    ("index.docker.io/library/app", "docker.io/library/app:latest", "app:latest"),
    ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
    ("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x"),
    ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
    ("HOST/app", "HOST/app:latest", "HOST/app:latest"),
    ("a.b/c", "a.b/c:latest", "a.b/c:latest"),
    ("app@" + DIGEST, f"docker.io/library/app@{DIGEST}", f"app@{DIGEST}"),
    ("app:1@" + DIGEST, f"docker.io/library/app@{DIGEST}", f"app@{DIGEST}"),
    ("a__b--c.d_e", "docker.io/library/a__b--c.d_e:latest", "a__b--c.d_e:latest"),
    ("app:" + "T" * 128, "docker.io/library/app:" + "T" * 128, "app:" + "T" * 128),
    ("docker.io/localhost/app", "docker.io/localhost/app:latest", "docker.io/localhost/app:latest"),
    ("0" * 63, f"docker.io/library/{'0' * 63}:latest", f"{'0' * 63}:latest"),
)


@pytest.mark.parametrize(("text", "canonical", "familiar"), FORMS)
def test_each_form_of_a_name_leads_to_the_others(text: str, canonical: str, familiar: str) -> None:
    """Defaults are filled in for the log, and left out for people."""
    assert references.canonical(text) == canonical
    assert references.familiar(text) == familiar
    assert references.canonical(familiar) == references.canonical(canonical) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "@" + DIGEST,
        "App",
        "host.io/App",
        "a//b",
        "/a",
        "a/",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a:b:c",
        "a:",
        "a:-x",
        "a:.x",
        "a:é",
        "é",
        "a b",
        "a\n",
        "a:x\n",
        "a@",
        "a@sha256:" + "0" * 63,
        "a@sha256:" + "A" * 64,
        "a@md5:" + "0" * 32,
        "0123456789abcdef" * 4,
        DIGEST,
        "a:" + "t" * 129,
        LONG,
        "a" * 481,
        "host.io:port/a",
        "-host.io/a",
        "a?b",
        "\ud800",
    ],
)
def test_what_docker_refuses_is_refused(text: str) -> None:
    """The error says what was given, cut, and why."""
    with pytest.raises(InvalidReferenceError) as caught:
        references.parse(text)
    assert len(str(caught.value).encode("utf-8", "backslashreplace")) < 700


def test_what_is_no_text_is_no_name() -> None:
    """A caller's slip is answered by an error of ours."""
    with pytest.raises(InvalidReferenceError):
        references.parse(5)  # type: ignore[arg-type]


@given(st.text(alphabet="aZ0.:/@-_[]\u0130\n", max_size=30))
def test_a_form_that_is_taken_is_stable(text: str) -> None:
    """Canonical of canonical, and of familiar, is canonical, whatever was written."""
    try:
        found = references.parse(text)
    except InvalidReferenceError:
        return
    assert references.parse(found.canonical) == found
    assert references.parse(found.familiar) == found
    assert len(found.canonical) <= references.NAME_LENGTH_MAX
