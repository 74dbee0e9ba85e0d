"""Photographs to splits, and near-duplicates across splits."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from pipeline.config import SplitName, SplitSettings
from pipeline.rng import random_rank
from tvqrap.runtime.errors import UserError

NEAR = 10
"""Largest number of different bits, of 64, between the hashes of near-duplicates."""


def split_photos(
    keys: Sequence[str], settings: SplitSettings, seed: int
) -> dict[SplitName, list[str]]:
    """Assigns each photograph's key to one split, in a random order from (seed, key).

    Counts follow the largest remainder; a split with a share above 0 gets at least one photograph.
    UserError where there are fewer photographs than such splits.
    """
    shares: dict[SplitName, float] = {
        "train": settings.train,
        "val": settings.val,
        "test": settings.test,
    }
    declared = [name for name, share in shares.items() if share > 0]
    if len(keys) < len(declared):
        raise UserError(
            f"data.photos: found {len(keys)} usable photographs, expected at least one for each "
            f"of the splits {', '.join(declared)}"
        )
    counts = {name: int(len(keys) * share) for name, share in shares.items()}
    remainders = sorted(declared, key=lambda name: counts[name] - len(keys) * shares[name])
    for name in remainders[: len(keys) - sum(counts.values())]:
        counts[name] += 1
    for name in declared:
        if counts[name] == 0:
            counts[max(declared, key=counts.__getitem__)] -= 1
            counts[name] = 1
    order = sorted(keys, key=lambda key: random_rank(seed, "split", key))
    result: dict[SplitName, list[str]] = {}
    start = 0
    for name, count in counts.items():
        result[name] = sorted(order[start : start + count])
        start += count
    return result


def perceptual_hash(image: np.ndarray) -> int:
    """64 bits of a uint8 (H, W, 3) photograph that survive scaling and recompression.

    The luminance is reduced to 32x32 and cosine-transformed. A bit says whether one of the 8x8
    lowest frequencies, without the constant, is above their median (Zauner, "Implementation and
    benchmarking of perceptual image hash functions", 2010, section 3.2.1).
    """
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float64)
    low = cv2.dct(gray)[1:9, 1:9]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes())


def near_duplicates(
    splits: Mapping[SplitName, Sequence[str]], hashes: Mapping[str, int]
) -> list[tuple[str, str, int]]:
    """Pairs of keys in different splits with near hashes, and the number of different bits."""
    names = list(splits)
    bits = {
        name: np.array([hashes[key] for key in keys], np.uint64) for name, keys in splits.items()
    }
    found = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for key, value in zip(splits[second], bits[second], strict=True):
                distances = np.bitwise_count(bits[first] ^ value)
                found += [
                    (splits[first][k], key, int(distances[k]))
                    for k in np.flatnonzero(distances <= NEAR).tolist()
                ]
    return sorted(found)
