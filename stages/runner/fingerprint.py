"""The fingerprint of a stage: SHA-256 over its params and the content of its inputs."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.shards.manifest import MANIFEST, Manifest
from tvqrap.runtime.errors import UserError

_NO_INPUTS = ("__pycache__", "README.md")
"""Names of what says nothing of a folder's content; .dvcignore has what DVC may see of them."""


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
    elif _is_set(path):
        # A manifest vouches for its shards by their SHA-256.
        yield path / MANIFEST
    else:
        for entry in sorted(path.iterdir()):
            if entry.name not in _NO_INPUTS:
                yield from _files(entry)


def _is_set(folder: Path) -> bool:
    """Whether it is a data set: others may have a file of a manifest's name among theirs."""
    if not (folder / MANIFEST).is_file():
        return False
    try:
        Manifest.load(folder)
    except UserError:
        return False
    return True


def fingerprint_of(name: str, values: Mapping[str, Any], inputs: Sequence[Path]) -> str:
    """SHA-256 (hex) of a stage: its name, its params' values, its inputs' content."""
    digest = hashlib.sha256(json.dumps([name, values], sort_keys=True).encode())
    for path in inputs:
        for file in _files(path):
            try:
                with file.open("rb") as stream:
                    content = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise UserError(f"{file}: not readable: {error.strerror or error}") from None
            digest.update(f"{file.as_posix()} {content}\n".encode())
    return digest.hexdigest()
