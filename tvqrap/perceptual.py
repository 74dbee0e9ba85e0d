"""Perceptual distances between images: ST-LPIPS, and LPIPS (VGG) for the paper's training.

Both compare features of a frozen convolutional network, normalised to unit length over the channels
at each position, channel by channel with learned weights (Zhang et al., "The Unreasonable
Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, equation 1). ST-LPIPS (Ghildyal
and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022) downsamples without aliasing:
strides become one, followed by a reflection-padded blur.

Nothing is downloaded: ST-LPIPS reads the weights that the package `stlpips_pytorch` carries, LPIPS
reads files that the user has fetched.
"""

import os
import pickle
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tvqrap.errors import UserError

Backbone = Literal["alex", "vgg"]

# Mean and deviation of ImageNet, for images in [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)

_VGG_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

_VGG_FILE = "vgg16-397923af.pth"
_VGG_HINT = f"fetch https://download.pytorch.org/models/{_VGG_FILE}"
_LINEAR_FILE = "lpips_vgg.pth"
_LINEAR_HINT = "install the package lpips, or copy its weights/v0.1/vgg.pth under that name"

SMALLEST_SIDE = 21

WEIGHTS_VARIABLE = "TVQRAP_WEIGHTS"


class Blur(nn.Module):
    """Halve a feature map: reflection padding by 2, then [1, 2, 1] x [1, 2, 1] / 16 at stride 2."""

    def forward(self, x: Tensor) -> Tensor:
        # Two box filters of width 2 make [1, 2, 1] / 4; pooling is much faster than a depthwise
        # convolution here, most of all backwards.
        padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
        return F.avg_pool2d(F.avg_pool2d(padded, 2, stride=1), 2)


class PerceptualDistance(nn.Module):
    """Distance of images in the feature space of a frozen network, at five depths.

    Images are float32 (N, 3, H, W) in [-1, 1], with sides of at least 21.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, stages: Sequence[nn.Sequential], channel_weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        for depth, weight in enumerate(channel_weights):
            self.register_buffer(f"weight{depth}", weight.reshape(1, -1, 1, 1))
        self.requires_grad_(False)
        self.eval()
        self.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """Stay in evaluation mode: a loss does not train."""
        return super().train(False)

    def features(self, image: Tensor) -> list[Tensor]:
        """Unit-length features at each depth, (N, C_k, H_k, W_k), to be given to `forward`.

        Raises ValueError for images smaller than 21x21, which the deepest layers cannot take.
        """
        if min(image.shape[-2:]) < SMALLEST_SIDE:
            height, width = image.shape[-2:]
            raise ValueError(f"{width}x{height} image, at least {SMALLEST_SIDE} a side is needed")
        x = ((image - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        features = []
        for stage in self.stages:
            x = stage(x)
            # vector_norm has gradient 0 where all channels are 0; sqrt(sum of squares) has NaN.
            features.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10))
        return features

    def forward(self, image: Tensor, target: Tensor | Sequence[Tensor]) -> Tensor:
        """Distance (N,) of each image to its target; 0 is equal, about 1 is far.

        `target` is an image or its `features`. Gradients flow into `image` only.
        """
        if isinstance(target, Tensor):
            with torch.no_grad():
                target = self.features(target)
        distance = image.new_zeros(len(image))
        for depth, (ours, theirs) in enumerate(zip(self.features(image), target, strict=True)):
            weight = getattr(self, f"weight{depth}")
            distance = distance + F.conv2d((ours - theirs).square(), weight).mean((1, 2, 3))
        return distance


def vgg_stages(pool: Sequence[nn.Module]) -> list[nn.Sequential]:
    stages = []
    inputs = 3
    for depth, widths in enumerate(_VGG_WIDTHS):
        layers: list[nn.Module] = list(pool) if depth else []
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = width
        stages.append(nn.Sequential(*layers))
    return stages


def alex_stages() -> list[nn.Sequential]:
    def relu() -> nn.Module:
        return nn.ReLU(inplace=True)

    return [
        nn.Sequential(nn.Conv2d(3, 64, 11, padding=2), Blur(), relu()),
        nn.Sequential(nn.MaxPool2d(3, 1), Blur(), nn.Conv2d(64, 192, 5, padding=2), relu()),
        nn.Sequential(nn.MaxPool2d(3, 1), Blur(), nn.Conv2d(192, 384, 3, padding=1), relu()),
        nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), relu()),
        nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), relu()),
    ]


def _read(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a readable file of weights ({reason})") from None
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise UserError(f"{path}: expected a dictionary of tensors, found something else")
    return loaded


def _take(weights: dict[str, Tensor], name: str, shape: Sequence[int], path: Path) -> Tensor:
    """Remove and return one tensor, so that what is left at the end is what nobody expected."""
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
    """A file of an installed package, found without importing the package."""
    try:
        files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in files if f.as_posix() == name), None)


def stlpips_weights(backbone: Backbone) -> Path:
    """The weight file of ST-LPIPS in the installed package `stlpips_pytorch` (BSD-2)."""
    name = f"stlpips_pytorch/weights/vST0.0/{backbone}_shift_tolerant.pth"
    path = _package_file("stlpips_pytorch", name)
    if path is None or not path.is_file():
        raise UserError(
            f"{name}: not found among the installed packages; install it with "
            "`pip install stlpips_pytorch`"
        )
    return path


def stlpips(backbone: Backbone) -> PerceptualDistance:
    """ST-LPIPS over AlexNet or VGG16, equal to pyiqa's `stlpips` and `stlpips-vgg`.

    Raises UserError where the weights are missing or are not what they should be.
    """
    path = stlpips_weights(backbone)
    weights = _read(path)
    stages = alex_stages() if backbone == "alex" else vgg_stages([nn.MaxPool2d(2, 1), Blur()])
    _take_constant(weights, "scaling_layer.shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), path)
    _take_constant(weights, "scaling_layer.scale", torch.tensor(_SCALE).view(1, 3, 1, 1), path)
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    position, width = 0, 0  # of a layer in the whole network: the file counts through the stages
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


def _find(given: Path | None, name: str, hint: str, package_file: Path | None = None) -> Path:
    """A weight file: the given path, else the folder in TVQRAP_WEIGHTS, else torch's cache."""
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
    """LPIPS 0.1 over VGG16, the paper's perceptual loss.

    `vgg` holds torchvision's VGG16 (`vgg16-397923af.pth`), `linear` the weights of the channels
    (`weights/v0.1/vgg.pth` of the package `lpips`). Without a path, each is looked for in the
    folder named by TVQRAP_WEIGHTS, in torch's cache (`TORCH_HOME`), and the second in the installed
    package `lpips`. Raises UserError where one is missing or is not what it should be.
    """
    vgg_path = _find(vgg, _VGG_FILE, _VGG_HINT)
    packaged = _package_file("lpips", "lpips/weights/v0.1/vgg.pth")
    linear_path = _find(linear, _LINEAR_FILE, _LINEAR_HINT, packaged)
    weights = {k: v for k, v in _read(vgg_path).items() if not k.startswith("classifier.")}
    stages = vgg_stages([nn.MaxPool2d(2)])
    layers = [layer for stage in stages for layer in stage]
    for position, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            _load_conv(layer, weights, f"features.{position}", vgg_path)
    _nothing_left(weights, vgg_path)
    weights = _read(linear_path)
    channel_weights = _channel_weights(stages, weights, linear_path)
    _nothing_left(weights, linear_path)
    return PerceptualDistance(stages, channel_weights)


def perceptual_distance(
    network: Literal["stlpips_alex", "stlpips_vgg", "lpips_vgg"],
) -> PerceptualDistance:
    """The distance that params.yaml names, with its weights from where they are usually found."""
    if network == "lpips_vgg":
        return lpips_vgg()
    return stlpips("alex" if network == "stlpips_alex" else "vgg")
