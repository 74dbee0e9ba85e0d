"""A contact sheet of token samples: the image decoded from their tokens beside LR and HR."""

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from PIL import Image

from pipeline.shards.codec import decode_array, decode_png
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
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
    manifest = check_tokens(tokens, tokenizer, pairs)
    network = load_tokenizer(tokenizer)
    token_home, pair_home = manifest.home(tokens), Manifest.load(pairs).home(pairs)
    missing = set(keys)
    rows: dict[str, SheetRow] = {}
    for shard in (row.name for row in manifest.shards):
        if not missing:
            break
        found = _samples(token_home / shard, missing)
        if found:
            hr = _samples(pair_home / shard, found)
            for key, sample in found.items():
                rows[key] = _row(network, sample, hr[key])
            missing -= found.keys()
    if missing:
        raise UserError(f"{tokens}: found no sample {', '.join(sorted(missing))}")
    structured = network.architecture.structure is not None
    columns = ["LR", *(["structure alone"] if structured else []), "decoded tokens", "HR"]
    return contact_sheet(columns, [rows[key] for key in keys])


def _samples(shard: Location, keys: Collection[str]) -> dict[str, Sample]:
    return {sample.key: sample for sample in read_shard(shard) if sample.key in keys}


@torch.inference_mode()
def _row(network: Tokenizer, tokens: Sample, pair: Sample) -> SheetRow:
    codes = torch.from_numpy(decode_array(tokens.members["codes.npy"]).astype("int64"))[None]
    structure = None
    if "structure.npy" in tokens.members:
        structure = torch.from_numpy(decode_array(tokens.members["structure.npy"])).float()[None]
    hr = decode_png(pair.members["hr.png"])
    decoded = to_uint8(network.decode_codes(structure, codes)[0])
    cells = [decode_png(tokens.members["lr0.png"])]
    if structure is not None:
        cells.append(to_uint8(network.decode(structure, None)[0]))
    quality = psnr(to_tensor(decoded)[None], to_tensor(hr)[None]).item()
    used = len(codes.unique())
    return SheetRow(
        f"{tokens.key}: {codes.numel()} codes, {used} different, PSNR {quality:.2f} dB",
        [*cells, decoded, hr],
    )
