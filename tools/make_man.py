"""Write the manual page of the command, `eventstore/man/eventstore.1`, from the command itself.

All that the page says of commands, arguments and options is what `--help` says, so there is one
text to keep right; a test fails while the page is not what this makes. One page holds all commands,
as they share their words; `click-man` would write one for each, with no examples, and lets a text
that begins with a dot be a request. The page has no date, so that it comes out the same.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from pathlib import Path

import click

from eventstore.cli import examples, main

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "eventstore" / "man" / "eventstore.1"
DESCRIPTION = """\
`eventstore` keeps the metadata of container images, and forgets nothing: every change is a record
in a log, with its time, who made it and why. So it can say what a host held at any moment, what
happened to an image, and prove that to people who do not trust it.

A store is a directory, which `--store` or EVENTSTORE_PATH names. `sync` takes over the images of a
Docker daemon, or of Podman and Buildah, and records what changed; `ls`, `tree`, `show`, `log`,
`diff` and `blame` look at it, now or at any moment of the past.

What is longer than a screen goes through a pager, as with `git`. Commands that take longer than a
second show on standard error how far they are. With `--json` a listing is one JSON object a line,
with nothing shortened. In a pipe there are neither colours nor a pager, and nothing is cut.
"""
ENVIRONMENT = {
    "EVENTSTORE_PATH": "The directory of the store, where `--store` is not given.",
    "EVENTSTORE_PAGER": "The pager; empty or `cat` for none. Else PAGER, else `less`.",
    "LESS": "Set to FRX for the pager, unless it is set.",
    "NO_COLOR": "Set to anything, it takes the colours away.",
    "COLUMNS": "The width of the terminal, where it is not what the terminal says.",
}
_SPECIAL = {"\\": r"\e", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_AS_TYPED = re.compile(r"(?<![\w-])(--?[a-z][\w-]*)")


def escaped(text: str) -> str:
    """Return text in which nothing means anything to roff."""
    return "".join(
        _SPECIAL.get(sign, sign if sign.isascii() else rf"\[u{ord(sign):04X}]") for sign in text
    )


def typed(text: str) -> str:
    """Return text that is to be typed as it stands: its hyphens are no others."""
    return escaped(text).replace("-", r"\-")


def prose(text: str) -> str:
    """Return a paragraph; what stands between backquotes, and options, are bold."""
    parts: list[str] = []
    for number, part in enumerate(" ".join(text.split()).split("`")):
        if number % 2:
            parts.append(rf"\fB{typed(part)}\fR")
        else:
            words = _AS_TYPED.split(part)
            parts += [
                rf"\fB{typed(word)}\fR" if odd % 2 else escaped(word)
                for odd, word in enumerate(words)
            ]
    line = "".join(parts)
    return rf"\&{line}" if line.startswith((".", "'")) else line


def paragraphs(text: str) -> Iterator[str]:
    """Iterate over the lines of a text; what click prints as it stands is printed as it stands."""
    for paragraph in cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from (".PP", ".nf", *map(escaped, paragraph.splitlines()[1:]), ".fi")
        else:
            yield from (".PP", prose(paragraph))


def options(parameters: Iterable[click.Parameter], context: click.Context) -> Iterator[str]:
    """Iterate over the lines that explain options."""
    for parameter in parameters:
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            switches, meaning = record
            yield from (".TP", rf"\fB{typed(switches)}\fR", prose(meaning))


def commands(above: click.Context) -> Iterator[str]:
    """Iterate over the lines that explain all commands."""
    for name, command in sorted(main.cli.commands.items()):
        context = click.Context(command, info_name=name, parent=above)
        usage = " ".join(command.collect_usage_pieces(context))
        yield f".SS {typed(name)} {typed(usage)}"
        yield from paragraphs(command.help or "")
        yield from options(command.params, context)  # without --help, which all have
        yield from (".PP", "Examples:" if len(examples.EXAMPLES[name]) > 1 else "Example:")
        yield from (".PP", ".RS 4", ".nf")
        yield from (typed(f"eventstore {example}") for example in examples.EXAMPLES[name])
        yield from (".fi", ".RE")


def exit_codes() -> Iterator[str]:
    """Iterate over the lines that explain the exit codes, from where the command has them."""
    for code, meaning in re.findall(r"^    (\d+) +(.+)$", main.__doc__ or "", re.MULTILINE):
        yield from (".TP", rf"\fB{code}\fR", prose(meaning))


def page() -> str:
    """Return the page."""
    version = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    settings = main.cli.context_settings
    context = click.Context(main.cli, info_name="eventstore", **settings)
    lines = [
        f'.TH EVENTSTORE 1 "" "eventstore {version}" "User Commands"',
        ".ad l",
        ".nh",
        ".SH NAME",
        r"eventstore \- the image store that remembers: what happened to which image, and when",
        ".SH SYNOPSIS",
        r"\fBeventstore\fR [\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION",
        *list(paragraphs(DESCRIPTION))[1:],
        ".SH OPTIONS",
        *options(main.cli.get_params(context), context),
        ".SH WORDS",
        "These mean the same in all commands:",
    ]
    for word, meaning in examples.MEANINGS.items():
        lines += [".TP", rf"\fI{word}\fR", prose(meaning)]
    lines += [".SH COMMANDS", *commands(context), ".SH EXIT STATUS", *exit_codes()]
    lines.append(".SH ENVIRONMENT")
    for name, meaning in ENVIRONMENT.items():
        lines += [".TP", rf"\fB{name}\fR", prose(meaning)]
    lines += [".SH SEE ALSO", r"\fBdocker\fR(1), \fBpodman\fR(1), \fBgit\fR(1), \fBless\fR(1)"]
    return "\n".join(lines) + "\n"


def write() -> int:
    """Write the page and say how long it is."""
    PAGE.parent.mkdir(exist_ok=True)
    text = page()
    PAGE.write_text(text, "utf-8")
    print(f"{PAGE.relative_to(TOP)}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(write())
