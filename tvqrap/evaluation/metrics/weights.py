"""The metrics' files of weights: sources, search folders, checksums and download.

pyiqa downloads weights at first use and unpickles them. Here, `tvqrap-cli metrics --fetch` alone
downloads, a folder of files works offline, and a metric without its files is missing, with the
reason.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tvqrap.config.evaluation import MetricName
from tvqrap.evaluation.metrics.registry import METRICS
from tvqrap.losses.perceptual_weights import WEIGHTS_VARIABLE
from tvqrap.runtime.atomic import atomic_path
from tvqrap.runtime.errors import UserError

_PYIQA = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"
_TORCHVISION = "https://download.pytorch.org/models/"
_CLIP = "https://openaipublic.azureedge.net/clip/models/"
_RN50 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"


@dataclass(frozen=True)
class Source:
    """The published place of a file of weights."""

    url: str
    sha256: str
    """The published first digits of its SHA-256; empty where none are published."""


def _source(name: str) -> Source:
    named = re.search(r"-([0-9a-f]{8})\.pth$", name)
    base = _TORCHVISION if name.startswith(("alexnet", "vgg16")) else _PYIQA
    return Source(base + name, named[1] if named else "")


SOURCES: dict[str, Source] = {
    name: _source(name) for metric in METRICS.values() for name in metric.weights
} | {"RN50.pt": Source(f"{_CLIP}{_RN50}/RN50.pt", _RN50)}
"""Sources by file name."""


def folders(given: Path | None) -> list[Path]:
    """The folders that are searched for weights: the given one alone, or else the usual ones."""
    if given is not None:
        return [given]
    import torch

    cache = Path(torch.hub.get_dir())
    usual = [cache / "pyiqa", cache / "checkpoints", cache / "clip"]
    named = os.environ.get(WEIGHTS_VARIABLE)
    return [Path(named), *usual] if named else usual


def find_weights(metric: MetricName, given: Path | None) -> dict[str, Path]:
    """The files that a metric needs, by name. Raises UserError naming missing files."""
    places = folders(given)
    found = {
        name: path
        for name in METRICS[metric].weights
        for path in (place / name for place in reversed(places))
        if path.is_file()
    }
    missing = [name for name in METRICS[metric].weights if name not in found]
    if missing:
        raise UserError(
            f"needs {' and '.join(missing)}, not found in "
            f"{', '.join(str(place) for place in places)}; "
            f"`tvqrap-cli metrics --fetch {metric}` downloads it"
        )
    return found


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_weights(files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of files of weights, by name. Raises UserError where one differs from the published.

    For most files the first digits alone are published, for some nothing.
    """
    digests = {}
    for name, path in files.items():
        digests[name] = sha256_of(path)
        expected = SOURCES[name].sha256
        if not digests[name].startswith(expected):
            more = "..." if len(expected) < len(digests[name]) else ""
            raise UserError(f"{path}: SHA-256 is {digests[name]}, expected {expected}{more}")
    return digests


def fetch_weights(metric: MetricName, given: Path | None) -> list[Path]:
    """Downloads a metric's missing files to the first of the folders, and returns their paths.

    Raises UserError where a download fails, or has another SHA-256 than published.
    """
    import torch

    places = folders(given)
    fetched = []
    for name in METRICS[metric].weights:
        if any((place / name).is_file() for place in places):
            continue
        source, target = SOURCES[name], places[0] / name
        try:
            with atomic_path(target) as temporary:
                torch.hub.download_url_to_file(source.url, str(temporary))
                found = sha256_of(temporary)
                if not found.startswith(source.sha256):
                    raise UserError(
                        f"{source.url}: SHA-256 is {found}, expected {source.sha256}..."
                    )
        except OSError as error:  # urllib's errors are among them
            raise UserError(f"{source.url}: cannot be fetched ({error})") from None
        fetched.append(target)
    return fetched
