"""End the help of each command with what its words mean, and with examples that can be typed.

`IMAGE`, `NAME` and `WHEN` mean the same in all commands, so they are explained here, once, under
whatever command takes them. A test runs the examples.
"""

from __future__ import annotations

import re

import click

MEANINGS = {
    "IMAGE": (
        "IMAGE is any unique start of an image's id, or a name that it has, such as app:1.0; ids"
        " go first."
    ),
    "NAME": (
        "NAME is a name as Docker writes it, such as app:1.0 or registry.example.com/team/app:1.0."
    ),
    "WHEN": (
        "WHEN is a position of the log (@120), a time (2026-01-31T14:00, local if it has no zone),"
        " now, or a phrase such as '2 hours ago'."
    ),
    "TIME": (
        "TIME is a time (2026-01-31T14:00, local if it has no zone), now, or a phrase such as"
        " '2 hours ago'."
    ),
}
EXAMPLES: dict[str, tuple[str, ...]] = {
    "audit": ("audit --since kept.txt",),
    "backup": ("backup images.backup",),
    "bisect": ("bisect --gone 0cb1c2c6f397", "bisect --named app:1.0"),
    "blame": ("blame app:1.0", "blame 0cb1c2c6f397 --at @241"),
    "check": ("check app.tlog-proof --checkpoint kept.txt",),
    "check-export": ("check-export records --checkpoint kept.txt",),
    "checkpoint": ("checkpoint -o kept.txt", "checkpoint --sign log.key -o signed.txt"),
    "compact": ("compact --before '90 days ago' --dry-run", "compact --before @241 -m retention"),
    "completion": ("completion bash",),
    "create": ("create config.json -m 'from the nightly build'",),
    "demo": ("demo",),
    "diff": ("diff @241", "diff yesterday now"),
    "export": ("export records --after @120", "export images --as oci-layout --at @241"),
    "export-tiles": ("export-tiles tiles --sign log.key",),
    "follow": ("follow", "follow app:1.0 --after '1 hour ago'"),
    "import": ("import app.tar", "import records --checkpoint kept.txt"),
    "info": ("info",),
    "keygen": ("keygen ci.example/log -o log.key",),
    "log": ("log app:1.0", "log --since yesterday --until @241", "log --tag app:1.0"),
    "ls": ("ls --all", "ls --at 'yesterday at 23:00'"),
    "mark-built": ("mark-built app:1.0",),
    "prove": ("prove app:1.0 -o app.tlog-proof", "prove @120 --checkpoint kept.txt"),
    "redact": ("redact app:1.0 -m 'it holds a password'",),
    "report": ("report history.html", "report history.html --since @241 --force"),
    "restore": ("restore images.backup restored",),
    "restore-image": ("restore-image 0cb1c2c6f397 -m 'deleted by mistake'",),
    "rm": ("rm app:1.0 -m 'no longer needed'",),
    "salvage": ("salvage damaged salvaged",),
    "search": ("search 2a1b", "search --all 0cb1c2"),
    "serve": ("serve",),
    "set-parent": ("set-parent app:1.1 app:1.0", "set-parent app:1.1 --none"),
    "show": ("show app:1.0", "show 0cb1c2c6f397 --at @241"),
    "snapshot": ("snapshot",),
    "sync": ("sync /var/lib/docker", "sync docker:// --dry-run"),
    "tag": ("tag app:stable app:1.0",),
    "touch": ("touch app:1.0 --time '2 hours ago'",),
    "tree": ("tree", "tree app:1.0"),
    "undo": ("undo @413 --dry-run", "undo @413 --only -m 'it was the wrong image'"),
    "untag": ("untag app:1.0",),
    "verify": ("verify",),
}
SECTIONS: dict[str, dict[str, str]] = {
    "Take in what hosts hold": {
        "sync": "take over all images of a host, and record what changed",
        "import": "add images of a layout or an archive, or records of an export",
        "create": "create images from configs",
    },
    "Look at images, now or at any moment": {
        "ls": "list images",
        "tree": "show images under their parents",
        "show": "show all that is known of an image",
        "search": "print the whole id that a prefix names",
    },
    "See what happened, when, by whom and why": {
        "log": "show what happened to all images, or to one",
        "follow": "print records as they come",
        "diff": "show what differs between two moments",
        "blame": "show who made an image what it is",
        "bisect": "find the record since which something holds",
    },
    "See it in a browser": {
        "report": "write one page that shows every moment",
        "serve": "show the page of a store as records come",
    },
    "Change images": {
        "tag": "give an image a name",
        "untag": "take a name away",
        "rm": "delete images; their history stays",
        "set-parent": "make an image the parent of another",
        "mark-built": "mark images as built here",
        "touch": "note that images were updated",
    },
    "Take back, and forget": {
        "undo": "take back what one transaction did",
        "restore-image": "bring a deleted image back as it was",
        "redact": "destroy a config for good",
        "compact": "destroy what only an old past needs",
    },
    "Prove to others": {
        "checkpoint": "print what an outsider keeps to be sure of the past",
        "audit": "make sure that all is as an earlier checkpoint says",
        "prove": "write a proof that a record is in the log",
        "check": "check such a proof, with no store",
        "keygen": "make a key to sign checkpoints with",
        "export-tiles": "write the log as static tiles",
    },
    "Bring out": {
        "export": "write records, or the images of a moment",
        "check-export": "check exported records, with no store",
        "backup": "write a copy of the store, while others write",
        "restore": "make a store of a backup",
    },
    "Look after a store": {
        "info": "say what it holds, since when, how large it is",
        "verify": "derive everything anew, and list what does not agree",
        "snapshot": "store the present view, for faster opening",
        "salvage": "get out of a damaged store what is sound",
    },
    "Begin": {
        "demo": "see the whole thing on three real Docker databases",
        "completion": "print what a shell reads to complete commands and names",
    },
}
_MORE = "More"
_WIDEST = max(len(name) for section in SECTIONS.values() for name in section)
_WORD = re.compile(r"[A-Z]+")


class Sections(click.Group):
    """A group whose help lists the commands by what they are for."""

    def format_commands(  # pyright: ignore[reportIncompatibleMethodOverride] (click shortens names)
        self, context: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the sections, each with its commands."""
        listed = {name for section in SECTIONS.values() for name in section}
        more = {
            name: command.get_short_help_str(formatter.width - max(map(len, self.commands)) - 6)
            for name, command in sorted(self.commands.items())
            if name not in listed
        }
        for title, section in (*SECTIONS.items(), (_MORE, more)):
            if section:
                with formatter.section(title):
                    formatter.write_dl(
                        list(section.items()), col_spacing=_WIDEST - max(map(len, section)) + 2
                    )


def words(command: click.Command) -> list[str]:
    """Return the words that a command takes and that mean the same everywhere."""
    taken: set[str] = set()
    for parameter in command.params:
        shown = parameter.metavar or (parameter.name or "").upper()
        if isinstance(parameter, click.Argument) or parameter.metavar:
            taken.update(_WORD.findall(shown))
    return [word for word in MEANINGS if word in taken]


def explain(group: click.Group) -> None:
    """Let the help of every command of a group end with what its words mean, and with examples."""
    for name, command in group.commands.items():
        examples = [f"  eventstore {example}" for example in EXAMPLES.get(name, ())]
        if examples:
            title = "Example:" if len(examples) == 1 else "Examples:"
            parts = [MEANINGS[word] for word in words(command)]
            command.epilog = "\n\n".join((*parts, "\n".join(("\b", title, *examples))))
