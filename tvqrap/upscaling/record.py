"""A record of model, settings and source in each upscaled file, by which a rerun skips finished
work."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from tvqrap.images.reading.open import open_image
from tvqrap.photo_io.metadata import signature
from tvqrap.runtime.errors import UserError

_NAME = "tvqrap"
_COMPARED = 2**16
"""Bytes at either end of a photograph's file that tell it from others of its size."""

SOURCE = "source"
"""Key of a record: digest of the photograph's file."""
FRAMES = "frames"
"""Key of a record: `all` where a file holds all frames or pages of its photograph."""


def record_line(record: Mapping[str, str]) -> str:
    """A record as one line: the package's name, then `key=value` for each entry."""
    return " ".join([_NAME, *(f"{key}={value}" for key, value in record.items())])


def read_record(path: Path) -> dict[str, str] | None:
    """The record of an upscaled file; None for other files."""
    try:
        with open_image(path, max_pixels=2**62) as image:
            name, *entries = (signature(image) or _NAME).split()
    except UserError:
        return None
    if name != _NAME or not entries:
        return None
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def source_digest(source: Path | bytes) -> str:
    """Digest of a photograph's size in bytes and of both ends of its file."""
    if isinstance(source, bytes):
        size, ends = len(source), source[:_COMPARED] + source[-_COMPARED:]
    else:
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            ends = file.read(_COMPARED)
            file.seek(max(0, size - _COMPARED))
            ends += file.read(_COMPARED)
    return hashlib.sha256(f"{size} ".encode() + ends).hexdigest()[:12]


def difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """How a record differs from the one that is wanted, as the end of a sentence; empty if not.

    Keys that the found record lacks, of a version of the program without them, do not differ.
    """
    if found.get(SOURCE, wanted[SOURCE]) != wanted[SOURCE]:
        return "made of another photograph, or of an earlier version"
    found, wanted = {FRAMES: "first", **found}, {FRAMES: "first", **wanted}
    other = [
        f"{key} {found[key]} (now {value})"
        for key, value in wanted.items()
        if found.get(key, value) != value
    ]
    return f"made with {', '.join(other)}" if other else ""
