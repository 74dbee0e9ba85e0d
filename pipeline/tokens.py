"""Token datasets: ground-truth structure and codes of every HR crop, extracted once.

One pair shard becomes one token shard of the same name and keys. Tokens depend on the HR crop
alone, so one extraction serves every LR variant; the variants are carried along, so that stage 2
reads nothing but the token dataset.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.executor import Place, run_tasks
from pipeline.settings import TokensSettings
from pipeline.shards import (
    Manifest,
    Sample,
    ShardRow,
    decode_png,
    encode_array,
    read_shard,
    write_shard,
)
from tvqrap.errors import UserError
from tvqrap.files import write_whole
from tvqrap.model_folder import read_card


@dataclass(frozen=True)
class ExtractedShard:
    """A finished token shard."""

    row: ShardRow
    code_counts: tuple[int, ...]
    """How often each code occurs in it."""


@dataclass(frozen=True)
class Extractor:
    """Makes, in each worker, the function that turns a pair shard into a token shard."""

    tokenizer: Path
    fingerprint: str
    """Of the tokenizer that the driver read: a worker that reads another one refuses."""
    pairs: Path
    out: Path
    settings: TokensSettings

    def __call__(self) -> Callable[[str], ExtractedShard]:
        """Loads the tokenizer, once per worker."""
        import torch

        from tvqrap.model_folder import fingerprint, load_tokenizer
        from tvqrap.training.precision import on_device

        torch.set_num_threads(self.settings.threads)
        # Codes are choices between near neighbours: formats with fewer digits change some of them.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        if self.settings.device == "cuda" and not torch.cuda.is_available():
            raise UserError("tokens.device is 'cuda', but this worker sees no CUDA device")
        tokenizer = load_tokenizer(self.tokenizer)
        if fingerprint(tokenizer) != self.fingerprint:
            raise UserError(f"{self.tokenizer}: not the tokenizer that the extraction began with")
        device = torch.device(self.settings.device)
        tokenizer = on_device(tokenizer, device)
        codebook = tokenizer.architecture.codebook

        def extract(name: str) -> ExtractedShard:
            samples = list(read_shard(self.pairs / name))
            counts = np.zeros(codebook, dtype=np.int64)
            made: list[Sample] = []
            for start in range(0, len(samples), self.settings.batch):
                part = samples[start : start + self.settings.batch]
                hr = np.stack([decode_png(sample.members["hr.png"]) for sample in part])
                images = torch.from_numpy(hr).to(device).permute(0, 3, 1, 2).float()
                structure, codes = tokenizer.tokenize(images.div_(127.5).sub_(1))
                numbers = codes.cpu().numpy()
                counts += np.bincount(numbers.ravel(), minlength=codebook)
                for index, sample in enumerate(part):
                    one = None if structure is None else structure[index].cpu().numpy()
                    made.append(_token_sample(sample, numbers[index], one))
            return ExtractedShard(write_shard(self.out / name, made), tuple(counts.tolist()))

        return extract


def _token_sample(pair: Sample, codes: np.ndarray, structure: np.ndarray | None) -> Sample:
    members = {suffix: data for suffix, data in pair.members.items() if suffix != "hr.png"}
    members["codes.npy"] = encode_array(codes.astype(np.uint16))
    if structure is not None:
        if not np.isfinite(structure).all() or np.abs(structure).max() > np.finfo(np.float16).max:
            raise ValueError(f"sample {pair.key}: its structure does not fit 16 bits")
        members["structure.npy"] = encode_array(structure.astype(np.float16))
    return Sample(pair.key, members)


def extract_set(
    pairs: Path,
    tokenizer: Path,
    work: Path,
    settings: TokensSettings,
    *,
    place: Place,
    workers: int,
    on_shard: Callable[[int], None] = lambda samples: None,
) -> Manifest:
    """Extracts the tokens of one set into `work/SET`, going on from the shards finished there.

    `work` belongs to one tokenizer and one choice of settings; `work/rows/SET` keeps a row for each
    finished shard. `on_shard` hears of each finished shard's samples.
    Raises `UserError` that lists the shards that failed; the others are finished all the same.
    """
    source = Manifest.load(pairs)
    card = read_card(tokenizer)
    out, rows = work / source.set, work / "rows" / source.set
    for folder in (out, rows):
        folder.mkdir(parents=True, exist_ok=True)
    done: dict[str, ExtractedShard] = {}
    for row in source.shards:
        finished = _finished(rows / f"{row.name}.json", out / row.name)
        if finished is not None:
            done[row.name] = finished
            on_shard(row.samples)
    missing = [row for row in source.shards if row.name not in done]

    def keep(index: int, shard: ExtractedShard) -> None:
        expected = missing[index]
        if shard.row.samples != expected.samples:
            raise UserError(
                f"{pairs / expected.name}: {shard.row.samples} samples, its manifest says "
                f"{expected.samples}"
            )
        write_whole(rows / f"{shard.row.name}.json", json.dumps(asdict(shard)).encode())
        done[shard.row.name] = shard
        on_shard(shard.row.samples)

    failures = run_tasks(
        Extractor(tokenizer.resolve(), card.fingerprint, pairs.resolve(), out.resolve(), settings),
        [row.name for row in missing],
        place=place,
        workers=workers,
        on_result=keep,
        cpus=settings.threads,
        gpus=1 if settings.device == "cuda" else 0,
    )
    if failures:
        named = "; ".join(f"{missing[each.index].name}: {each.error}" for each in failures)
        raise UserError(f"{pairs}: {len(failures)} of {len(missing)} shards failed: {named}")
    counts = np.sum([done[row.name].code_counts for row in source.shards], axis=0)
    manifest = Manifest(
        kind="tokens",
        set=source.set,
        params=source.params,
        shards=tuple(done[row.name].row for row in source.shards),
        lost=source.lost,
        extra={
            "tokenizer": card.fingerprint,
            "architecture": card.architecture.to_dict(),
            "pairs": source.root,
            "precision": "float32",
            "device": settings.device,
            "batch": settings.batch,
            "threads": settings.threads,
            **code_statistics(counts),
        },
    )
    manifest.save(out)
    return manifest


def _finished(row: Path, shard: Path) -> ExtractedShard | None:
    try:
        content = json.loads(row.read_bytes())
        finished = ExtractedShard(ShardRow(**content["row"]), tuple(content["code_counts"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    try:
        with shard.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == finished.row.sha256
    except FileNotFoundError:
        return None
    return finished if whole else None


def code_statistics(counts: np.ndarray) -> dict[str, Any]:
    """Share of codes in use, entropy in nats and perplexity of a code histogram."""
    share = counts / max(1, counts.sum())
    used = share[share > 0]
    entropy = float(-(used * np.log(used)).sum())
    return {
        "codes_used": round(float((counts > 0).mean()), 6),
        "code_entropy": round(entropy, 6),
        "code_perplexity": round(float(np.exp(entropy)), 3),
    }


def check_tokens(tokens: Path, tokenizer: Path, pairs: Path | None = None) -> Manifest:
    """The manifest of a token dataset.

    Raises `UserError` where another tokenizer made it, or (with `pairs`) from other pairs.
    """
    manifest = Manifest.load(tokens)
    card = read_card(tokenizer)
    found = manifest.extra.get("tokenizer")
    if manifest.kind != "tokens" or found != card.fingerprint:
        raise UserError(
            f"{tokens}: made by tokenizer {str(found)[:12]}, but {tokenizer} is "
            f"{card.fingerprint[:12]}: extract the tokens again"
        )
    if pairs is not None:
        made_from, given = manifest.extra["pairs"], Manifest.load(pairs).root
        if made_from != given:
            raise UserError(
                f"{tokens}: made from pairs {made_from[:12]}, but {pairs} is {given[:12]}: extract "
                "the tokens again"
            )
    return manifest
