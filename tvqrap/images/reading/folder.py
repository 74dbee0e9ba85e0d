"""Listing the images of a folder: one set of rules for all commands and for the pipeline."""

import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

SUFFIXES = frozenset(
    {
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff"),
        *(".bmp", ".gif", ".avif", ".heic", ".heif", ".hif", ".jxl"),
        *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".tga", ".ppm", ".pgm", ".pbm", ".pnm"),
    }
)
"""Endings, in lower case, of the files that count as images in a folder."""

ANYWHERE = (Path("/"),)
"""For `scan_folder`: links may lead to any place."""

_THUMBNAIL_FOLDERS = frozenset({"@eadir", "__macosx"})
"""Folders, in lower case, that file servers and archives fill with copies of photographs."""
_MOST_VISITS = 16
"""Number of times that one folder is listed: links to each other would be endless."""
_ENDINGS_NAMED = 6
_Identity = tuple[int, int]
"""Device and inode of a folder."""

HIDDEN = "hidden"
BY_ENDING = "not named as images"
THUMBNAILS = "a folder of thumbnails"
LEADS_OUT = "a link that leads out of the folder"
BROKEN = "a link that leads nowhere"
IN_A_CIRCLE = "a link back to a folder around it"
TOO_OFTEN = "a folder that is linked too often"
A_FOLDER = "a folder"
SPECIAL = "neither a file nor a folder"


@dataclass(frozen=True)
class PassedOver:
    """An entry of a folder that is not listed as an image."""

    path: Path
    reason: str


@dataclass
class FolderScan:
    """The images of a folder, and the entries that are not among them."""

    images: list[Path] = field(default_factory=list)
    """Sorted; each begins with the folder as it was given."""
    passed_over: list[PassedOver] = field(default_factory=list)
    """Sorted; a folder stands for all that is in it."""
    faults: list[PassedOver] = field(default_factory=list)
    """Sorted: folders that cannot be listed, and images that are links to nothing."""

    def summary(self) -> str:
        """Counts of `passed_over` by reason, with a name for each; empty where there are none."""
        counts = Counter(entry.reason for entry in self.passed_over)
        first = {entry.reason: entry.path.name for entry in reversed(self.passed_over)}
        parts = [
            f"{count} {reason} ({self._endings() if reason == BY_ENDING else first[reason]})"
            for reason, count in sorted(counts.items())
        ]
        return printable(f"passed over: {', '.join(parts)}") if parts else ""

    def fault_lines(self) -> list[str]:
        """One line for each fault."""
        return [printable(f"{entry.path}: {entry.reason}") for entry in self.faults]

    def _endings(self) -> str:
        paths = [entry.path for entry in self.passed_over if entry.reason == BY_ENDING]
        endings = sorted({path.suffix.lower() or path.name for path in paths})
        more = ["..."] if len(endings) > _ENDINGS_NAMED else []
        return ", ".join(endings[:_ENDINGS_NAMED] + more)


def scan_folder(
    folder: Path, links_to: Iterable[Path] = (), *, recursive: bool = True
) -> FolderScan:
    """Lists the images below a folder by their endings (`SUFFIXES`).

    Folders in it are passed over unless `recursive`.

    Links to files and folders are followed where they end inside the folder or inside one of
    `links_to`. Hidden entries, folders of thumbnails, files with other endings, other links,
    pipes and devices are passed over. Raises UserError where there is no folder.
    """
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "no such folder"
        raise UserError(f"{printable(folder)}: {problem}, expected a folder of images")
    allowed = [Path(os.path.realpath(path)) for path in (folder, *links_to)]
    scan = FolderScan()
    visits: Counter[_Identity] = Counter()
    waiting: list[tuple[Path, frozenset[_Identity]]] = [(folder, frozenset())]
    while waiting:
        here, around = waiting.pop()
        try:
            found = here.stat()
            with os.scandir(here) as listing:
                entries = list(listing)
        except OSError as error:
            reason = f"cannot be searched ({error.strerror})"
            scan.faults.append(PassedOver(here, reason))
            continue
        identity = found.st_dev, found.st_ino
        visits[identity] += 1
        if identity in around or visits[identity] > _MOST_VISITS:
            reason = IN_A_CIRCLE if identity in around else TOO_OFTEN
            scan.passed_over.append(PassedOver(here, reason))
            continue
        for entry in entries:
            path = here / entry.name
            reason = _reason(entry, allowed)
            if reason == BROKEN:
                scan.faults.append(PassedOver(path, reason))
            elif reason:
                scan.passed_over.append(PassedOver(path, reason))
            elif entry.is_dir() and not recursive:
                scan.passed_over.append(PassedOver(path, A_FOLDER))
            elif entry.is_dir():
                waiting.append((path, around | {identity}))
            else:
                scan.images.append(path)
    scan.images.sort()
    for entries_left in (scan.passed_over, scan.faults):
        entries_left.sort(key=lambda entry: entry.path)
    return scan


def _reason(entry: "os.DirEntry[str]", allowed: list[Path]) -> str:
    """Why an entry is not listed; empty for images and for folders to search."""
    suffix = Path(entry.name).suffix.lower()
    if entry.name.startswith("."):
        return HIDDEN
    try:
        mode = entry.stat().st_mode
    except OSError:  # only a link has nothing behind its name
        return BROKEN if suffix in SUFFIXES else BY_ENDING
    if stat.S_ISDIR(mode):
        if entry.name.lower() in _THUMBNAIL_FOLDERS:
            return THUMBNAILS
    elif suffix not in SUFFIXES:
        return BY_ENDING
    elif not stat.S_ISREG(mode):
        return SPECIAL
    if entry.is_symlink():
        real = Path(os.path.realpath(entry.path))
        if not any(real.is_relative_to(place) for place in allowed):
            return LEADS_OUT
    return ""
