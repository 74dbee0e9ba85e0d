"""A record of model, settings and source in each upscaled file, by which a rerun skips finished
work."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tvqrap.images.reading.open import open_image
from tvqrap.photo_io.metadata import signature
from tvqrap.runtime.errors import UserError

_NAME = "tvqrap"

SOURCE = "sha256"
"""Key of a record: digest of the photograph's file."""
FRAMES = "frames"
"""Key of a record: `all` where a file holds all frames or pages of its photograph."""
_NOT_GIVEN = {FRAMES: "first", "tile": "auto", "overlap": "auto", "pad_multiple": "auto"}
"""Values of keys that a record lacks where they are not given."""


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


def made_by(fingerprint: str, colour: str, precision: str, **given: int | None) -> dict[str, str]:
    """The part of a record that is the same for all outputs of an upscaler.

    `given` are limits of its tiles, None where the machine's memory decides.
    """
    limits = {name: str(value) for name, value in given.items() if value is not None}
    return {"colour": colour, "precision": precision, **limits, "model": fingerprint[:12]}


def source_digest(source: Path | bytes) -> str:
    """Digest of a photograph's file."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()[:12]
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """How a record differs from the one that is wanted, as the end of a sentence; empty if not.

    Keys that the found record lacks, of a version of the program without them, do not differ.
    """
    if found.get(SOURCE, wanted[SOURCE]) != wanted[SOURCE]:
        return "made of another photograph, or of an earlier version"
    found, wanted = {**_NOT_GIVEN, **found}, {**_NOT_GIVEN, **wanted}
    other = [
        f"{key} {found[key]} (now {value})"
        for key, value in wanted.items()
        if found.get(key, value) != value
    ]
    return f"made with {', '.join(other)}" if other else ""
