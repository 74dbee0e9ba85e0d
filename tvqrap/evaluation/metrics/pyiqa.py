"""Builds pyiqa's metrics from given files; nothing is downloaded and no code is unpickled.

pyiqa, torchvision, timm and CLIP each search their own cache for weights and download missing ones.
While a metric is built, a folder of links to the given files replaces these caches, and downloads
are refused. Not thread-safe: functions of those packages are replaced meanwhile.
"""

import contextlib
import functools
import io
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tvqrap.config.evaluation import MetricName
from tvqrap.evaluation.metrics.registry import METRICS, Metric
from tvqrap.evaluation.metrics.weights import check_weights, find_weights
from tvqrap.losses.perceptual_weights import stlpips_weights
from tvqrap.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import nn

_TORCHSCRIPT = "RN50.pt"
"""CLIP's file is a TorchScript archive, which `weights_only` cannot read. `check_weights` compares
its whole SHA-256 with that published by OpenAI before it is opened."""


def installed(package: str) -> str | None:
    """The version of an installed package; None where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def pyiqa_version() -> str | None:
    """The version of the installed pyiqa; None where it is missing."""
    return installed("pyiqa")


def unusable(name: MetricName, weights: Path | None = None) -> str | None:
    """The reason why a metric cannot be used here; None where it can. Its network is not built.

    `weights` is a folder of the metrics' files, instead of the usual ones.
    """
    metric = METRICS[name]
    if metric.pyiqa is None:
        return None
    try:
        if name == "stlpips_alex" or name == "stlpips_vgg":
            stlpips_weights("alex" if name == "stlpips_alex" else "vgg")
        elif pyiqa_version() is None:
            return "pyiqa is not installed; `pip install tvqrap[evaluation]` brings it"
        elif metric.weights:
            check_weights(find_weights(name, weights))
    except UserError as error:
        return str(error)
    return None


def build_metric(metric: Metric, files: Mapping[str, Path]) -> "nn.Module":
    """pyiqa's network of a metric, on the CPU, with its weights from `files` (by name).

    Raises UserError where pyiqa is missing or a file has another SHA-256 than published, and any
    exception of pyiqa for files that do not fit.
    """
    if pyiqa_version() is None:
        raise UserError("pyiqa is not installed; `pip install tvqrap[evaluation]` brings it")
    import pyiqa
    import torch

    check_weights(files)
    logging.getLogger("pyiqa").setLevel(logging.WARNING)
    with _closed(files), contextlib.redirect_stdout(io.StringIO()):
        network: nn.Module = pyiqa.create_metric(
            metric.pyiqa, device=torch.device("cpu"), **metric.options
        )
    return network


@contextmanager
def _closed(files: Mapping[str, Path]) -> Iterator[None]:
    import pyiqa.archs.clipiqa_arch
    import pyiqa.utils.download_util
    import timm
    import torch

    with _cache(files) as folder, contextlib.ExitStack() as stack:
        for cache in ("checkpoints", "pyiqa"):
            for name, path in files.items():
                link = Path(folder, cache, name)
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(path.resolve())
        before = torch.hub.get_dir()
        torch.hub.set_dir(folder)
        stack.callback(torch.hub.set_dir, before)
        downloads = pyiqa.utils.download_util
        for owner, name, stand_in in (
            (downloads, "DEFAULT_CACHE_DIR", str(Path(folder, "pyiqa"))),
            (downloads, "download_url_to_file", _refuse),
            (torch.hub, "download_url_to_file", _refuse),
            (torch, "load", functools.partial(_tensors_alone, torch.load)),
            # MANIQA's own file holds every tensor of the network that timm would download.
            (timm, "create_model", functools.partial(_untrained, timm.create_model)),
            (pyiqa.archs.clipiqa_arch, "load", functools.partial(_clip, files)),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, stand_in)
        yield


@contextmanager
def _cache(files: Mapping[str, Path]) -> Iterator[str]:
    """An empty folder for links to the files.

    Where it cannot be made, a metric without files gets a place that can have none.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        except OSError:
            if files:
                raise
            folder = os.devnull
        yield folder


def _refuse(url: str, *arguments: Any, **options: Any) -> NoReturn:
    raise UserError(f"needs {url}, which `tvqrap-cli metrics --fetch` does not know")


def _tensors_alone(load: Any, *arguments: Any, **options: Any) -> Any:
    return load(*arguments, **{**options, "weights_only": True})


def _untrained(create: Any, *arguments: Any, **options: Any) -> Any:
    return create(*arguments, **{**options, "pretrained": False})


def _clip(files: Mapping[str, Path], name: str, device: str) -> "nn.Module":
    import torch
    from pyiqa.archs.clip_model import build_model

    archive = torch.jit.load(str(files[_TORCHSCRIPT]), map_location="cpu")
    network: nn.Module = build_model(archive.state_dict()).float()
    return network
