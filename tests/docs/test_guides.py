"""Run the guides of the README as readers do, and show that a guide that is wrong is found out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from attacking import TOOLS
from store import children

sys.path.append(str(TOOLS))

import guides

README = guides.README.read_text("utf-8")
GUIDES = guides.guides(README)
PYTHON_LINES_MAX = 22
SMALL = """## A guide
```python
# say.py
print("a file of 4.0 KiB")
```
```console
$ python say.py
a file of 4.0 KiB
$ echo 'ids 11111111-2222-3333-4444-555555555555 66666666-2222-3333-4444-555555555555' \\
  | sed s/ids/ids:/
ids: 11111111-2222-3333-4444-555555555555 66666666-2222-3333-4444-555555555555
$ echo '11111111-2222-3333-4444-555555555555 of 2026-11-23 19:26:22Z'
11111111-2222-3333-4444-555555555555 of 2026-11-23 19:26:22Z
$ date -u "+%Y-%m-%d %H:%M:%SZ a moment ago, you@$(uname -n)"
2026-11-27 09:00:00Z a moment ago, you@laptop
$ echo an error >&2; false
an error
$ echo $?
1
```
"""


@cache
def answers(heading: str) -> list[guides.Answer]:
    """Return what the commands of a guide say, run once."""
    return guides.run(GUIDES[heading], Path(children.PACKAGE))


def found(readme: str) -> list[str]:
    """Run the only guide of a text, and return what does not hold."""
    (steps,) = guides.guides(readme).values()
    return guides.differences(readme, steps, guides.run(steps, Path(children.PACKAGE)))


def test_there_is_a_guide_for_each_reader_and_nothing_to_type_that_is_not_run() -> None:
    """Only how to install it is not: that takes the network."""
    assert [name for name in GUIDES if name.startswith("Ten minutes")] == [
        "Ten minutes as an auditor",
        "Ten minutes as an operator",
        "Ten minutes with the library",
    ]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert [text for kind, text in blocks if kind == "sh" and "pip install" not in text] == []
    assert [text for kind, text in blocks if kind != "console" and "\n$ " in "\n" + text] == []
    for kind, text in blocks:
        if kind == "python":
            assert re.match(r"# \w+\.py\n", text)
            assert len(text.splitlines()) <= PYTHON_LINES_MAX


@pytest.mark.slow
@pytest.mark.parametrize("heading", GUIDES)
def test_a_guide_says_what_comes(heading: str) -> None:
    """Each command, typed by a reader into an empty folder, says what the guide shows."""
    assert guides.differences(README, GUIDES[heading], answers(heading)) == []


@pytest.mark.slow
@pytest.mark.parametrize("heading", GUIDES)
def test_a_guide_with_a_wrong_line_is_found_out(heading: str) -> None:
    """Without a line of what a command says, and with another id, position or number in one."""
    lines = README.splitlines()
    for step in GUIDES[heading]:
        if not isinstance(step, guides.Command) or step.end is None:
            continue
        for number in range(step.number, step.end):
            for wrong in wronged(lines[number]):
                text = "\n".join([*lines[:number], wrong, *lines[number + 1 :]])
                assert guides.differences(text, GUIDES[heading], answers(heading)), wrong


def wronged(line: str) -> Iterator[str]:
    """Iterate over wrong forms of a line."""
    if line.strip():
        yield ""
    for match in re.finditer(r"@\d+|\b[0-9a-f]{12}\b|\b\d+ (?=images|records)", line):
        yield line[: match.start()] + "~" + line[match.end() :]


def test_what_may_differ_is_masked_and_nothing_else_is() -> None:
    """Ids, the run's times, ages and the host's name may be others; an older time may not."""
    assert found(SMALL) == []
    for shown, other in (
        ("a file of 4.0 KiB\n$", "a file of 5.0 KiB\n$"),
        ("19:26:22Z\n$ date", "19:26:23Z\n$ date"),
        ("00:00Z a moment ago", "00:00Z 3 days later"),
        ("@laptop", "@desk"),
        ("an error\n$ echo", "another\n$ echo"),
        ("an error\n$ echo", "$ echo"),
        ("\n11111111-2222-3333-4444-555555555555 of", "\n66666666-2222-3333-4444-555555555555 of"),
        ("$ echo $?\n1\n", ""),
        ("$ python say.py\n", "$ exit 0\n$ python say.py\n"),
        ("$ python say.py\n", "$ python said.py\n"),
    ):
        assert shown in SMALL
        assert found(SMALL.replace(shown, other)), other
    same = SMALL.replace("\nids: 11111111", "\nids: 77777777").replace("\n11111111", "\n77777777")
    assert found(same) == []
    assert found(SMALL.replace("00:00Z a moment ago", "00:00Z 3 days ago")) == []
