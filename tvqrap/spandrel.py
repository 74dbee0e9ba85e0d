"""A plug-in of spandrel, by which chaiNNer, ComfyUI and other programs load our upscalers.

import tvqrap.spandrel

tvqrap.spandrel.install()
model = spandrel.ModelLoader().load_from_file("tvqrap.safetensors")
"""

from spandrel import (  # type: ignore[import-untyped]
    MAIN_REGISTRY,
    Architecture,
    ArchSupport,
    ImageModelDescriptor,
    ModelTiling,
)
from torch import Tensor

from tvqrap.architecture import SCALE
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.single_file import CONFIG_TENSOR, network_of
from tvqrap.upscaling.upscaler import Upscaler


class TvqrapArch(Architecture):
    """Single files of `tvqrap-cli export --format safetensors`."""

    def __init__(self) -> None:
        super().__init__(id="TVQRAP", detect=lambda state: CONFIG_TENSOR in state)

    def load(self, state_dict: dict[str, Tensor]) -> ImageModelDescriptor:
        """The descriptor of an upscaler. Raises UserError for tensors of other networks."""
        network = network_of(state_dict, "state dict")
        weights = {key: state_dict[key].float() for key in network.state_dict()}
        return ImageModelDescriptor(
            network,
            weights,
            architecture=self,
            purpose="SR",
            tags=[f"width {network.architecture.width:g}"],
            supports_half=False,  # scores of codes are float32
            supports_bfloat16=False,
            scale=SCALE,
            input_channels=3,
            output_channels=3,
            tiling=ModelTiling.INTERNAL,
            call_fn=_upscale,
        )


def install() -> None:
    """Makes spandrel know our upscalers; a second call does nothing."""
    others = tuple(support.architecture.id for support in MAIN_REGISTRY.architectures())
    support = ArchSupport.from_architecture(TvqrapArch(), before=others)
    MAIN_REGISTRY.add(support, ignore_duplicates=True)


def _upscale(network: UpscalerNetwork, image: Tensor) -> Tensor:
    """(1, 3, H, W) in [0, 1] to (1, 3, 4H, 4W), in tiles where it is large."""
    upscaler = Upscaler(network, device=image.device)
    upscaled: Tensor = upscaler(image * 2 - 1)
    return upscaled / 2 + 0.5
