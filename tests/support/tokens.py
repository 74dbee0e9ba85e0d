"""A set of pairs and a tokenizer for the tests of token data sets."""

import io
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pipeline.config import PairsSettings, TokensSettings
from pipeline.pairs.make import make_set
from pipeline.shards.index import write_index
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard, write_shard
from pipeline.sources.scan import scan_photos
from pipeline.storage.location import file_sha256
from pipeline.tokens.extract import extract_set
from tests.support.pairs import PAIRS, data_settings, texture
from tvqrap.architecture import Architecture
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.pretrained.folder import save_model

SMALL = Architecture(width=0.0625, codebook=16, texture=4, structure=8)
SETTINGS = TokensSettings(device="cpu", batch_size=2, threads=1, gpus=1.0, storage=None)


def make_material(
    root: Path,
    architecture: Architecture = SMALL,
    *,
    size: int = 64,
    count: int = 7,
    shard_size: int = 3,
    licences: str | None = None,
) -> tuple[Path, Path]:
    """(folder of the set of pairs `train`, folder of a tokenizer with random weights)."""
    (root / "photos").mkdir()
    for number in range(8):
        image = texture(number, 2 * size, 2 * size + 12 + 5 * number)
        Image.fromarray(image).save(root / "photos" / f"p{number}.png")
    data = data_settings(root / "photos", min_side=64, licences=licences)
    train = {**PAIRS["sets"]["train"], "size": size, "count": count}
    settings = {**PAIRS, "shard_size": shard_size, "sets": {"train": train}}
    pairs = PairsSettings.model_validate(settings)
    scan = scan_photos(data, executor="serial", workers=1)
    make_set("train", pairs, data, scan, root / "pairs", executor="serial", workers=1)
    torch.manual_seed(0)
    save_model(root / "tokenizer", "tokenizer", Tokenizer(architecture), architecture, {})
    return root / "pairs/train", root / "tokenizer"


def with_changes(source: Path, out: Path, change: Callable[[int, Sample], Sample | None]) -> Path:
    """A copy of a set whose samples, numbered from 0, `change` has made others of; None: left out.

    Its manifest is that of the new shards, so that the copy is sound. `out` has the set's name.
    """
    manifest = Manifest.load(source)
    out.mkdir(parents=True)
    rows, number = [], 0
    for row in manifest.shards:
        samples = []
        for sample in read_shard(source / row.name):
            changed = change(number, sample)
            number += 1
            if changed is not None:
                samples.append(changed)
        rows.append(write_shard(out / row.name, samples))
    changed = replace(manifest, shards=tuple(rows))
    changed.save(out)
    write_index(out, changed)
    return out


def with_member(source: Path, out: Path, name: str, content: bytes | None) -> tuple[Path, str]:
    """(a copy of a set, the key of its second sample, whose member `name` holds `content`).

    None removes the member. Unlike `write_shard`, this writes content that does not decode; the
    manifest has the new shard's SHA-256 and size. The copy has no index.
    """
    manifest = Manifest.load(source)
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("*.parquet"))
    path = out / manifest.shards[0].name
    samples = list(read_shard(path))
    key = samples[1].key
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            members = dict(sample.members)
            if sample.key == key:
                members.pop(name, None)
                members |= {} if content is None else {name: content}
            for suffix, payload in sorted(members.items()):
                entry = tarfile.TarInfo(f"{sample.key}.{suffix}")
                entry.size = len(payload)
                tar.addfile(entry, io.BytesIO(payload))
    row = replace(manifest.shards[0], bytes=path.stat().st_size, sha256=file_sha256(path))
    replace(manifest, shards=(row, *manifest.shards[1:])).save(out)
    return out, key


class Killed(BaseException):
    """Ends a run as a kill would: nothing catches it."""


def kill(samples: int) -> None:
    raise Killed


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def extract(material: tuple[Path, Path], out: Path, **options: Any) -> Manifest:
    """Extracts into `out/train`."""
    options = {"executor": "serial", "workers": 1, **options}
    return extract_set(*material, out, options.pop("settings", SETTINGS), **options)
