"""Draws samples of a token data set and the batches in which they were extracted."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pipeline.config import TokensSettings
from pipeline.rng import random_stream
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from pipeline.storage.location import Location
from pipeline.tokens.check import check_tokens
from pipeline.tokens.encode import Crop, Encoder, batches, pair_images
from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class DrawnBatch:
    """A batch of the extraction with at least one drawn sample."""

    shard: str
    crops: list[Crop]
    drawn: dict[int, Sample]
    """The stored token sample of each drawn crop, by the crop's position in the batch."""


@dataclass(frozen=True)
class TokenSample:
    """Random samples of a token data set, and the encoder with the settings of their extraction."""

    encoder: Encoder
    manifest: Manifest
    tokens: Location
    """Folder of the token shards."""
    pairs: Location
    """Folder of the pair shards."""
    positions: dict[str, list[int]]
    """Positions of the drawn samples, by shard."""

    @classmethod
    def draw(
        cls, tokens: Location, pairs: Location, tokenizer: Path, count: int, seed: int
    ) -> "TokenSample":
        """Draws up to `count` samples without replacement; equal seeds draw the same samples.

        Raises `UserError` where tokens, pairs and tokenizer do not belong together, or where this
        machine does not have the device of the extraction.
        """
        manifest = check_tokens(tokens, tokenizer, pairs)
        encoder = Encoder(tokenizer, manifest.extra["tokenizer"], _settings(tokens, manifest))
        stream = random_stream("token sample", seed)
        chosen = stream.permutation(manifest.samples)[:count]
        positions: dict[str, list[int]] = {}
        start = 0
        for row in manifest.shards:
            inside = chosen[(chosen >= start) & (chosen < start + row.samples)] - start
            if len(inside):
                positions[row.name] = sorted(inside.tolist())
            start += row.samples
        homes = manifest.home(tokens), Manifest.load(pairs).home(pairs)
        return cls(encoder, manifest, *homes, positions)

    def batches(self) -> Iterator[DrawnBatch]:
        """The batches with drawn samples, shard by shard."""
        multiple = self.encoder.architecture.hr_multiple
        size = self.manifest.extra["batch"]
        images = pair_images(self.manifest)
        for shard, positions in self.positions.items():
            stored = list(read_shard(self.tokens / shard))
            if positions[-1] >= len(stored):
                raise UserError(
                    f"{self.tokens / shard}: {len(stored)} samples, its manifest says more"
                )
            chosen = {stored[position].key: stored[position] for position in positions}
            pairs = read_shard(self.pairs / shard)
            for crops in batches(
                pairs,
                size,
                multiple=multiple,
                images=images,
                on_bad=lambda sample, error: None,
            ):
                drawn = {
                    index: chosen[crop.sample.key]
                    for index, crop in enumerate(crops)
                    if crop.sample.key in chosen
                }
                if drawn:
                    yield DrawnBatch(shard, crops, drawn)


def _settings(tokens: Location, manifest: Manifest) -> TokensSettings:
    """The settings of the extraction, as the manifest of its token set records them."""
    try:
        return TokensSettings(
            device=manifest.extra["device"],
            batch_size=manifest.extra["batch"],
            threads=manifest.extra["threads"],
            gpus=1.0,  # gpus and storage change no token
            storage=None,
        )
    except (KeyError, ValidationError) as error:
        raise UserError(
            f"{tokens}: its manifest does not say how the tokens were extracted ({error!r}), "
            "expected device, batch and threads"
        ) from None
