"""What the pages of the project name: links, commands, flags, paths and params."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
from typer.core import TyperGroup

from tests.support.paths import ROOT, project_files

GENERATED = ("docs/params.md", "docs/ablation-tables.md")
"""Pages that programs write; only their links are checked."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^(?: {4}|\t)(?! *[-*] )(.+)$", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Page:
    """A Markdown page."""

    name: str
    """Path relative to the checkout."""
    text: str

    @property
    def prose(self) -> str:
        """The text without fenced blocks and indented lines."""
        return _INDENTED.sub("", _FENCE.sub("", self.text))

    @property
    def fences(self) -> list[tuple[str, str]]:
        """(language, content) of each fenced block."""
        return _FENCE.findall(self.text)

    @property
    def spans(self) -> list[str]:
        """Code spans of the prose."""
        return _SPAN.findall(self.prose)

    @property
    def lines(self) -> list[str]:
        """Lines of indented code, without the indentation and comments."""
        text = _FENCE.sub("", self.text)
        return [line.split("  #")[0].strip() for line in _INDENTED.findall(text)]

    @property
    def links(self) -> list[str]:
        """Targets of links and pictures, URLs left out."""
        return [link for link in _LINK.findall(self.text) if "://" not in link]

    @property
    def anchors(self) -> set[str]:
        """Anchors of the headings, as GitHub makes them."""
        headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", self.text), re.MULTILINE)
        words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
        return {word.strip().replace(" ", "-") for word in words}

    @property
    def code(self) -> list[str]:
        """Everything that is code: spans and indented lines."""
        return [*self.spans, *self.lines]


@cache
def tracked() -> frozenset[str]:
    """Files that git tracks or would track, and their folders."""
    files = project_files()
    folders = {str(parent) for name in files for parent in Path(name).parents}
    return frozenset({*files, *folders})


def pages() -> list[Page]:
    """All pages for readers, the changelog aside: it has to name what is no longer there."""
    names = ["README.md", "CONTRIBUTING.md", "tvqrap/weights/README.md"]
    names += sorted(name for name in tracked() if re.fullmatch(r"docs/[^/]+\.md", name))
    return [Page(name, (ROOT / name).read_text(encoding="utf-8")) for name in names]


@dataclass(frozen=True)
class Command:
    """A command line that a page names, without environment variables and redirections."""

    words: tuple[str, ...]
    """The program's name without its folder, then the arguments."""

    @property
    def program(self) -> str:
        """Name of the program, or `python -m MODULE`."""
        if self.words[:2] == ("python", "-m"):
            return " ".join(self.words[:3])
        return self.words[0]

    @property
    def flags(self) -> list[str]:
        """Options, without their values."""
        given = self.words[3 if self.program.startswith("python") else 1 :]
        return [word.split("=")[0] for word in given if re.match(r"--?[A-Za-z]", word)]


def commands(code: str) -> Iterator[Command]:
    """Commands of ours in a line of code: tvqrap-cli, make, dvc, python -m."""
    for part in re.split(r"&&|;|\|\|?(?!\w)", code):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:  # a quotation that goes on
            continue
        while words and re.match(r"[A-Z_]+=|do$", words[0]):
            words = words[1:]
        words = [words[0].rpartition("/")[2], *words[1:]] if words else []
        if words and words[0] in ("torchrun",):
            words = ["python", *words[words.index("-m") :]]
        if words and (words[0] in ("tvqrap-cli", "make", "dvc") or words[:2] == ["python", "-m"]):
            yield Command(tuple(words))


def click_problem(root: click.Command, command: Command, skip: int) -> str | None:
    """Why a command line is none of `root`'s, its first `skip` words left out; None if it is."""
    found, words = root, list(command.words[skip:])
    while isinstance(found, TyperGroup) and words and not words[0].startswith("-"):
        if words[0] not in found.commands:
            return f"{words[0]!r} is no command of {' '.join(command.words[:skip])}"
        found = found.commands[words.pop(0)]
    known = {option for param in found.params for option in (*param.opts, *param.secondary_opts)}
    unknown = [flag for flag in command.flags if flag not in known | {"--help"}]
    return f"{found.name} has no {', '.join(unknown)}" if unknown else None
