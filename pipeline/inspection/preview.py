"""A contact sheet of token samples: the image decoded from their tokens beside LR and HR."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.shards.codec import decode_codes, decode_png, decode_structure
from pipeline.shards.index import SampleIndex
from pipeline.shards.tar import Sample, decoded_member
from pipeline.storage.location import Location
from pipeline.tokens.check import check_tokens
from tvqrap.evaluation.report.contact_sheet import SheetRow, contact_sheet
from tvqrap.images.tensors import to_tensor, to_uint8
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.pretrained.folder import load_tokenizer
from tvqrap.runtime.errors import UserError
from tvqrap.training.validation import psnr


def token_sheet(
    tokens: Location, pairs: Location, tokenizer: Path, keys: Sequence[str]
) -> Image.Image:
    """A row per key: LR (variant 0), the structure alone, structure and codes, HR.

    Raises `UserError` where tokens, pairs and tokenizer do not belong together, or no sample has
    the key.
    """
    check_tokens(tokens, tokenizer, pairs)
    network = load_tokenizer(tokenizer)
    found = SampleIndex.open(tokens).find(keys)
    hr = SampleIndex.open(pairs).find(keys)
    rows = {
        key: _row(network, tokens, found[key], decoded_member(pairs, hr[key], "hr.png", decode_png))
        for key in found
    }
    structured = network.architecture.structure is not None
    columns = ["LR", *(["structure alone"] if structured else []), "decoded tokens", "HR"]
    return contact_sheet(columns, [rows[key] for key in keys])


@torch.inference_mode()
def _row(network: Tokenizer, folder: Location, tokens: Sample, hr: NDArray[np.uint8]) -> SheetRow:
    sizes = network.architecture
    decode = partial(decode_codes, codebook=sizes.codebook)
    codes = torch.from_numpy(decoded_member(folder, tokens, "codes.npy", decode))[None]
    structure = None
    if sizes.structure is not None:
        held = decoded_member(folder, tokens, "structure.npy", decode_structure)
        structure = torch.from_numpy(held).float()[None]
    high, wide = hr.shape[:2]
    found: list[tuple[int, ...]] = [tuple(codes[0].shape)]
    expected: list[tuple[int, ...]] = [(high // sizes.texture, wide // sizes.texture)]
    if structure is not None and sizes.structure is not None:
        found.append(tuple(structure[0].shape))
        side = high // sizes.structure, wide // sizes.structure
        expected.append((sizes.structure_channels, *side))
    if found != expected:
        raise UserError(
            f"{folder}: sample {tokens.key}: found tokens of {found}, expected {expected} for an "
            f"HR crop of {wide}x{high}"
        )
    decoded = to_uint8(network.decode_codes(structure, codes)[0])
    cells = [decoded_member(folder, tokens, "lr0.png", decode_png)]
    if structure is not None:
        cells.append(to_uint8(network.decode(structure, None)[0]))
    quality = psnr(to_tensor(decoded)[None], to_tensor(hr)[None]).item()
    used = len(codes.unique())
    return SheetRow(
        f"{tokens.key}: {codes.numel()} codes, {used} different, PSNR {quality:.2f} dB",
        [*cells, decoded, hr],
    )
