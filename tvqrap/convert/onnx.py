"""Exports an upscaler as an ONNX file, for programs without PyTorch.

The graph takes images of any size: it pads, upscales and crops as `Upscaler` does with an image
that it does not tile. Needs the extra `export`.
"""

import copy
import json
import math
import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

import tvqrap
from tvqrap.architecture import SCALE
from tvqrap.images.padding import PAD_MULTIPLE, crop_upscaled, mirrored_positions
from tvqrap.networks.blocks import Up
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import read_config, read_readme, state_as
from tvqrap.pretrained.upscaler import load_upscaler
from tvqrap.runtime.atomic import atomic_path
from tvqrap.runtime.errors import UserError

INPUT, OUTPUT = "lr", "sr"
"""Names of the graph's input and output."""
OPSET = 18
"""Operator set of ONNX 1.13 (2022), which most runtimes support."""


Dtype = Literal["float32", "float16"]


class AnySize(nn.Module):
    """An upscaler's network for LR images (N, 3, H, W) of any size, from 1x1 up.

    The output is (N, 3, 4H, 4W), clamped. Both are in [0, 1], or in [-1, 1] if `signed`. The graph
    has no branch on the size: `pad_to_multiple` skips sides without padding, this module pads all
    sides alike.
    """

    def __init__(
        self, network: UpscalerNetwork, *, signed: bool = True, dtype: Dtype = "float32"
    ) -> None:
        super().__init__()
        self.network = with_fixed_kernels(network)
        self.multiple = math.lcm(PAD_MULTIPLE, network.architecture.lr_multiple)
        self.signed = signed
        if dtype == "float16":
            _halve(self.network)

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[2:]
        padded = lr if self.signed else lr * 2 - 1
        for axis, side in ((2, height), (3, width)):
            positions = mirrored_positions(side, side + -side % self.multiple)
            padded = padded.index_select(axis, positions)
        sr = crop_upscaled(self.network(padded), height, width)
        return sr.clamp(-1, 1) if self.signed else (sr / 2 + 0.5).clamp(0, 1)


def with_fixed_kernels(network: UpscalerNetwork) -> UpscalerNetwork:
    """A copy in which `Up` layers are transposed convolutions with constant kernels."""
    fixed = copy.deepcopy(network)
    for parent in list(fixed.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Up):
                setattr(parent, name, _transposed(child))
    return fixed


def export_onnx(
    folder: Path, file: Path, *, signed: bool = False, dtype: Dtype = "float32"
) -> None:
    """Writes the upscaler in a model folder as ONNX, whole or not at all.

    Images are RGB from 0 to 1, or from -1 to 1 if `signed`. `dtype` is that of the images and of
    the arithmetic; the scores of codes are float32 in any case.

    The metadata describe input, output and model. The model's README.md, if there is one, becomes
    the graph's documentation.

    Raises:
        UserError: The folder holds no upscaler, a weight is not finite in `dtype`, or onnx is not
            installed.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise UserError(
            "export needs onnx, which is not installed: pip install 'tvqrap[export]'"
        ) from None
    config = read_config(folder)
    state_as(folder, getattr(torch, dtype))  # checks the values
    network = AnySize(load_upscaler(folder), signed=signed, dtype=dtype).eval()
    example = torch.zeros(1, 3, network.multiple, 2 * network.multiple, dtype=getattr(torch, dtype))
    values = "-1 to 1" if signed else "0 to 1"
    with atomic_path(file) as temporary:
        with torch.no_grad(), warnings.catch_warnings():
            # torch warns that the tracer is its older exporter. The newer one takes minutes to
            # solve the divisibility of the sizes by windows symbolically.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (example,),
                str(temporary),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_axes={
                    INPUT: {0: "count", 2: "height", 3: "width"},
                    OUTPUT: {0: "count", 2: "4 * height", 3: "4 * width"},
                },
                dynamo=False,
            )
        model = onnx.load(temporary)
        model.producer_name, model.producer_version = "tvqrap", tvqrap.__version__
        model.doc_string = read_readme(folder) or ""
        metadata = {
            "input": f"{INPUT}: {dtype} (count, 3, height, width), RGB, {values}",
            "output": f"{OUTPUT}: the same with {SCALE} times the height and width",
            "range": values,
            "scale": str(SCALE),
            "padding": f"to multiples of {network.multiple}, in the graph",
            "architecture": json.dumps(config.architecture.to_dict()),
            "assignment": config.assignment or "hard",
            "fingerprint": config.fingerprint,
            "about": json.dumps(config.about),
        }
        onnx.helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        onnx.save(model, temporary)


def _halve(network: UpscalerNetwork) -> None:
    """Makes a network compute in float16, but for the scores of codes and their entries."""
    network.half()
    head = network.predictor.code_head
    for part in (head.norm, head.score, network.codebook):
        part.float()
    network.decoder.register_forward_pre_hook(lambda _, given: (given[0].half(),))


def _transposed(up: Up) -> nn.ConvTranspose2d:
    channels = up.conv.in_channels
    transposed = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)
    with torch.no_grad():
        transposed.weight.copy_(up.kernel())
        if transposed.bias is not None and up.conv.bias is not None:
            transposed.bias.copy_(up.conv.bias)
    return transposed
