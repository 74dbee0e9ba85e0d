"""Decomposes a photograph into its structure and its texture codes (Figure 9 of the paper).

Pictures are uint8 (H, W, 3), of the photograph's size.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tvqrap.evaluation.statistics.codebook import CodeUse, code_use
from tvqrap.images.padding import pad_to_multiple
from tvqrap.images.tensors import to_tensor, to_uint8
from tvqrap.networks.tokenizer import Tokenizer, join
from tvqrap.training.validation import psnr

Picture = NDArray[np.uint8]

_FLAT = 1e-6
"""Principal components whose spread, relative to the largest, is below this are ignored."""


@dataclass(frozen=True)
class Decomposition:
    """One photograph, and its reconstructions from all or a part of its tokens."""

    input: Picture
    structure: Picture | None
    """D(S + 0), from the structure alone; None without a structure branch."""
    texture: Picture
    """D(0 + quantized), from the codes alone; without a structure branch, the reconstruction."""
    both: Picture | None
    """D(S + quantized), the reconstruction; None without a structure branch."""
    code_map: Picture
    """Codes in the colours of `code_colours`, each as `Architecture.texture` pixels square."""
    use: CodeUse
    """Usage and perplexity of the codes inside the photograph, without its padding."""
    codebook: int
    structure_share: float | None
    """Variance of S over the summed variances of S and quantized, which the decoder adds: 0 if the
    codes hold everything, 1 if they hold nothing; None without a structure branch."""

    @property
    def pictures(self) -> dict[str, Picture]:
        """The pictures by name, in the order in which they are shown."""
        named = {
            "input": self.input,
            "both": self.both,
            "structure": self.structure,
            "texture": self.texture,
            "codes": self.code_map,
        }
        return {name: picture for name, picture in named.items() if picture is not None}

    def psnr(self, picture: Picture) -> float:
        """PSNR of one of the pictures against the input, in dB over RGB; 168 for equal ones."""
        return psnr(to_tensor(picture)[None], to_tensor(self.input)[None]).item()


def reduce_to(photo: Image.Image, max_side: int) -> Image.Image:
    """Reduces the photograph by area averaging to a longer side of at most `max_side`."""
    longer = max(photo.size)
    if longer <= max_side:
        return photo
    width, height = (max(1, round(side * max_side / longer)) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.BOX)


@torch.inference_mode()
def decompose(tokenizer: Tokenizer, photo: Image.Image) -> Decomposition:
    """Decomposes an RGB photograph of any size, taken as an HR image.

    It is padded at the bottom and right to the tokenizer's multiple, and the pictures are cropped
    back. Raises ValueError where the tokenizer gives values that are not finite.
    """
    architecture = tokenizer.architecture
    width, height = photo.size
    hr = pad_to_multiple(to_tensor(photo)[None], architecture.hr_multiple)
    encoded = tokenizer.encode(hr)
    codes = tokenizer.codebook.nearest(encoded.texture)
    quantized = tokenizer.codebook.lookup(codes)
    decoded = encoded.decoded_structure

    def picture(structure: Tensor | None, texture: Tensor | None) -> Picture:
        image = tokenizer.decoder(join(structure, texture))
        return to_uint8(image[0, :, :height, :width])

    side = architecture.texture
    rows, columns = -(-height // side), -(-width // side)
    shown = codes[0, :rows, :columns].numpy()
    colours = code_colours(tokenizer.codebook.embedding.weight)[shown]
    share = None
    if decoded is not None:
        inside = (..., slice(rows), slice(columns))
        share = structure_share(decoded[inside], quantized[inside])
    return Decomposition(
        input=np.asarray(photo),
        structure=None if decoded is None else picture(decoded, None),
        texture=picture(None, quantized),
        both=None if decoded is None else picture(decoded, quantized),
        code_map=colours.repeat(side, 0).repeat(side, 1)[:height, :width],
        use=code_use(shown, architecture.codebook),
        codebook=architecture.codebook,
        structure_share=share,
    )


def structure_share(decoded: Tensor, quantized: Tensor) -> float:
    """The part of the decoder's input that the structure carries, 0 to 1.

    It is the variance over positions of the decoded structure S (N, C, h, w), summed over images
    and channels, over that of S and of the quantized texture, which the decoder adds.
    """
    of_structure, of_codes = (part.var((2, 3), correction=0).sum() for part in (decoded, quantized))
    total = (of_structure + of_codes).clamp_min(torch.finfo(of_structure.dtype).tiny)
    return (of_structure / total).item()


def code_colours(entries: Tensor) -> NDArray[np.uint8]:
    """A colour for each codebook entry (K, C): uint8 (K, 3), similar for similar entries.

    Red, green and blue are the ranks, over 0 to 255, of the entries along their first three
    principal components. Ranks keep a few outlying entries from pressing all others into one
    colour. The sign of a component makes its largest coefficient positive; a component in which the
    entries do not differ is 128.
    """
    values = entries.detach().cpu().double().numpy()
    values = values - values.mean(0)
    _, directions = np.linalg.eigh(values.T @ values)
    axes = directions[:, :-4:-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0)
    components = values @ (axes * np.sign(largest))
    spread = np.ptp(components, 0)
    colours = np.full(components.shape, 128, np.uint8)
    for channel in np.flatnonzero(spread > _FLAT * spread.max()):
        different, ranks = np.unique(components[:, channel], return_inverse=True)
        colours[:, channel] = np.rint(255 * ranks / (len(different) - 1))
    return colours
