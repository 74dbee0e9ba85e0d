"""The fingerprint of a stage: SHA-256 over its params and the content of its inputs.

The content of a set of shards is its manifest. That of a model is its weights and their kind, but
not their origin: the same weights from another run are the same input.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.shards.manifest import MANIFEST, Manifest
from tvqrap.runtime.errors import UserError

_IGNORED = ("__pycache__", "README.md")
"""Names of entries that change no result; .dvcignore hides them from DVC as well."""


_MODEL = "model.json"
"""The file of a model folder that describes its weights."""


def _files(path: Path) -> Iterator[Path]:
    """Files that make the content of an input; linked folders only where they lie inside it."""
    top = path.resolve()

    def below(place: Path, around: frozenset[Path]) -> Iterator[Path]:
        if not place.is_dir():
            yield place
            return
        real = place.resolve()
        if real in around or not real.is_relative_to(top):
            return
        if _is_set(place):
            yield place / MANIFEST  # lists the SHA-256 of every shard
            return
        for entry in sorted(place.iterdir()):
            if entry.name not in _IGNORED:
                yield from below(entry, around | {real})

    return below(path, frozenset())


def _digest(file: Path) -> str:
    """SHA-256 (hex) of a file; `-` for a pipe, a device or a link to nothing.

    Raises `UserError` where a file is missing or not readable.
    """
    if (file.exists() and not file.is_file()) or (file.is_symlink() and not file.exists()):
        return "-"
    if file.name == _MODEL and (model := _model_digest(file)) is not None:
        return model
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{file}: not readable: {error.strerror or error}") from None


def _model_digest(file: Path) -> str | None:
    """SHA-256 (hex) of a `model.json` without the origin of the weights; None for another file."""
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(config, dict) or not {"fingerprint", "about"} <= config.keys():
        return None
    del config["about"]
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _is_set(folder: Path) -> bool:
    """Whether it is a set of shards: other folders may hold a file of a manifest's name."""
    if not (folder / MANIFEST).is_file():
        return False
    try:
        Manifest.load(folder)
    except UserError:
        return False
    return True


def input_digests(inputs: Sequence[Path]) -> dict[str, str]:
    """SHA-256 (hex) over the content of each input, by its path.

    Raises `UserError` where an input is missing or not readable.
    """
    digests = {}
    for path in inputs:
        digest = hashlib.sha256()
        for file in _files(path):
            # Names that are not UTF-8 come as lone surrogates.
            line = f"{file.as_posix()} {_digest(file)}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        digests[path.as_posix()] = digest.hexdigest()
    return digests


def fingerprint_of(name: str, values: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """SHA-256 (hex) over a stage's name, the values of its params and the digests of its inputs."""
    return hashlib.sha256(json.dumps([name, values, digests], sort_keys=True).encode()).hexdigest()
