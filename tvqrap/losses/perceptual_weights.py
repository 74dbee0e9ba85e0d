"""Weights of the perceptual distances: finding and checking their files."""

import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from tvqrap.losses.perceptual import SCALE, SHIFT, Blur, PerceptualDistance, alex_stages, vgg_stages
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.state_dict import read_state_dict

Backbone = Literal["alex", "vgg"]

_VGG_FILE = "vgg16-397923af.pth"

_VGG_HINT = f"fetch https://download.pytorch.org/models/{_VGG_FILE}"

_LINEAR_FILE = "lpips_vgg.pth"

_LINEAR_PACKAGE = ("lpips", "lpips/weights/v0.1/vgg.pth")

_LINEAR_HINT = "install the package lpips, or copy its weights/v0.1/vgg.pth under that name"

WEIGHTS_VARIABLE = "TVQRAP_WEIGHTS"


def _take(weights: dict[str, Tensor], name: str, shape: Sequence[int], path: Path) -> Tensor:
    """Removes and returns one tensor; those left at the end are unexpected."""
    if name not in weights:
        raise UserError(f"{path}: tensor {name!r} is missing")
    tensor = weights.pop(name).float()
    if tuple(tensor.shape) != tuple(shape):
        raise UserError(
            f"{path}: tensor {name!r} has shape {tuple(tensor.shape)}, expected {tuple(shape)}"
        )
    if not tensor.isfinite().all():
        raise UserError(f"{path}: tensor {name!r} holds values that are not finite")
    return tensor


def _take_constant(weights: dict[str, Tensor], name: str, value: Tensor, path: Path) -> None:
    if not torch.allclose(_take(weights, name, value.shape, path), value, atol=1e-6):
        raise UserError(f"{path}: tensor {name!r} differs from the published definition")


def _load_conv(conv: nn.Conv2d, weights: dict[str, Tensor], name: str, path: Path) -> None:
    for part in ("weight", "bias"):
        parameter = getattr(conv, part)
        parameter.data.copy_(_take(weights, f"{name}.{part}", parameter.shape, path))


def _channel_weights(
    stages: Sequence[nn.Sequential], weights: dict[str, Tensor], path: Path
) -> list[Tensor]:
    widths = [[m.out_channels for m in s if isinstance(m, nn.Conv2d)][-1] for s in stages]
    return [
        _take(weights, f"lin{depth}.model.1.weight", (1, width, 1, 1), path)
        for depth, width in enumerate(widths)
    ]


def _nothing_left(weights: dict[str, Tensor], path: Path) -> None:
    if weights:
        raise UserError(f"{path}: unexpected tensor {next(iter(weights))!r}")


def _package_file(package: str, name: str) -> Path | None:
    """Finds a file of an installed package without importing the package."""
    try:
        files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in files if f.as_posix() == name), None)


def stlpips_weights(backbone: Backbone) -> Path:
    """Returns the weight file of ST-LPIPS in the installed package `stlpips_pytorch` (BSD-2)."""
    name = f"stlpips_pytorch/weights/vST0.0/{backbone}_shift_tolerant.pth"
    path = _package_file("stlpips_pytorch", name)
    if path is None or not path.is_file():
        raise UserError(
            f"{name}: not found among the installed packages; install it with "
            "`pip install stlpips_pytorch`"
        )
    return path


def stlpips(backbone: Backbone) -> PerceptualDistance:
    """Loads ST-LPIPS over AlexNet or VGG16, equal to pyiqa's `stlpips` and `stlpips-vgg`.

    Raises:
        UserError: The weights are missing or not those of the network.
    """
    path = stlpips_weights(backbone)
    weights = read_state_dict(path)
    stages = alex_stages() if backbone == "alex" else vgg_stages([nn.MaxPool2d(2, 1), Blur()])
    _take_constant(weights, "scaling_layer.shift", torch.tensor(SHIFT).view(1, 3, 1, 1), path)
    _take_constant(weights, "scaling_layer.scale", torch.tensor(SCALE).view(1, 3, 1, 1), path)
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    position, width = 0, 0  # the file numbers the layers through all stages
    for depth, stage in enumerate(stages, start=1):
        for layer in stage:
            name = f"net.slice{depth}.{position}"
            if isinstance(layer, nn.Conv2d):
                _load_conv(layer, weights, name, path)
                width = layer.out_channels
            elif isinstance(layer, Blur):
                blur = torch.outer(kernel, kernel).expand(width, 1, 3, 3)
                _take_constant(weights, f"{name}.filt", blur, path)
            position += 1
    channel_weights = _channel_weights(stages, weights, path)
    _nothing_left(weights, path)
    return PerceptualDistance(stages, channel_weights)


def missing_lpips_vgg() -> list[str]:
    """Names of the files that `lpips_vgg` needs and does not find."""
    missing = []
    for name, packaged in ((_VGG_FILE, None), (_LINEAR_FILE, _package_file(*_LINEAR_PACKAGE))):
        try:
            _find(None, name, "", packaged)
        except UserError:
            missing.append(name)
    return missing


def _find(given: Path | None, name: str, hint: str, package_file: Path | None = None) -> Path:
    """Finds a file of weights: the given path, else in TVQRAP_WEIGHTS, else in torch's cache."""
    if given is not None:
        if not given.is_file():
            raise UserError(f"{given}: no such file of weights; {hint}")
        return given
    folders = [Path(torch.hub.get_dir()) / "checkpoints"]
    if folder := os.environ.get(WEIGHTS_VARIABLE):
        folders.insert(0, Path(folder))
    candidates = [folder / name for folder in folders]
    if package_file is not None:
        candidates.append(package_file)
    for path in candidates:
        if path.is_file():
            return path
    looked = " and ".join(str(folder) for folder in folders)
    raise UserError(
        f"{name}: weights not found in {looked}; {hint} into one of these folders "
        f"(the variable {WEIGHTS_VARIABLE} names the first)"
    )


def lpips_vgg(vgg: Path | None = None, linear: Path | None = None) -> PerceptualDistance:
    """Loads LPIPS 0.1 over VGG16, the paper's perceptual loss.

    `vgg` is the file of torchvision's VGG16 (`vgg16-397923af.pth`), `linear` that of the channel
    weights (`weights/v0.1/vgg.pth` of the package `lpips`). Without a path, each is looked for in
    the folder that TVQRAP_WEIGHTS names, then in torch's cache (`TORCH_HOME`); `linear` then in the
    installed package `lpips`.

    Raises:
        UserError: A file is missing or does not hold the weights of the network.
    """
    vgg_path = _find(vgg, _VGG_FILE, _VGG_HINT)
    packaged = _package_file(*_LINEAR_PACKAGE)
    linear_path = _find(linear, _LINEAR_FILE, _LINEAR_HINT, packaged)
    weights = {
        k: v for k, v in read_state_dict(vgg_path).items() if not k.startswith("classifier.")
    }
    stages = vgg_stages([nn.MaxPool2d(2)])
    layers = [layer for stage in stages for layer in stage]
    for position, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            _load_conv(layer, weights, f"features.{position}", vgg_path)
    _nothing_left(weights, vgg_path)
    weights = read_state_dict(linear_path)
    channel_weights = _channel_weights(stages, weights, linear_path)
    _nothing_left(weights, linear_path)
    return PerceptualDistance(stages, channel_weights)


def perceptual_distance(
    network: Literal["stlpips_alex", "stlpips_vgg", "lpips_vgg"],
) -> PerceptualDistance:
    """Loads the distance that params.yaml names, with weights from their usual folders."""
    if network == "lpips_vgg":
        return lpips_vgg()
    return stlpips("alex" if network == "stlpips_alex" else "vgg")
