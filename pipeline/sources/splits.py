"""Photographs to splits, and near-duplicates across splits."""

from collections.abc import Mapping
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.config import SplitName, SplitSettings
from pipeline.rng import random_order
from pipeline.sources.scanned import decoded
from tvqrap.runtime.errors import UserError

NEAR = 10
"""Largest number of different bits, of 64, between the hashes of near-duplicates."""


def split_photos(
    keys: NDArray[np.bytes_], settings: SplitSettings, seed: int
) -> dict[SplitName, NDArray[np.int64]]:
    """Numbers of the photographs of each split, sorted, in a random order from (seed, key).

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
    order = np.lexsort(random_order(seed, "split", names=decoded(keys, np.arange(len(keys)))))
    result: dict[SplitName, NDArray[np.int64]] = {}
    start = 0
    for name, count in counts.items():
        result[name] = np.sort(order[start : start + count])
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
    splits: Mapping[SplitName, NDArray[np.int64]], hashes: NDArray[np.uint64]
) -> list[tuple[int, int, int]]:
    """Pairs of photographs in different splits with near hashes: numbers, and different bits.

    Of several photographs of a split with one hash, the first stands for all.
    """
    different = {
        name: np.unique(hashes[numbers], return_index=True) for name, numbers in splits.items()
    }
    found = []
    for first, second in combinations(splits, 2):
        (few, few_at), (many, many_at) = different[first], different[second]
        swapped = len(few) > len(many)  # the smaller one is looked up in the other
        pairs = near_hashes(many, few)[:, ::-1] if swapped else near_hashes(few, many)
        distances = np.bitwise_count(few[pairs[:, 0]] ^ many[pairs[:, 1]])
        numbers = (splits[first][few_at[pairs[:, 0]]], splits[second][many_at[pairs[:, 1]]])
        found += list(zip(*(column.tolist() for column in (*numbers, distances)), strict=True))
    return sorted(found)


_BANDS = 4
_BAND_BITS = 64 // _BANDS
_QUERIES = 8192
"""Hashes that are looked up at once."""


def near_hashes(queries: np.ndarray, indexed: np.ndarray) -> np.ndarray:
    """Pairs of near hashes, int64 (N, 2): positions in `queries` and in `indexed`, both uint64.

    Of four bands of 16 bits, near hashes differ by at most a quarter of `NEAR` bits in one. So each
    band is looked up among the hashes sorted by it, with every such difference.
    """
    differences = np.arange(2**_BAND_BITS, dtype=np.uint64)
    differences = differences[np.bitwise_count(differences) <= NEAR // _BANDS]
    found = [np.empty((0, 2), np.int64)]
    for band in range(_BANDS):
        indexed_band = _band(indexed, band)
        order = np.argsort(indexed_band, kind="stable")
        starts = np.searchsorted(indexed_band[order], np.arange(2**_BAND_BITS + 1))
        for start in range(0, len(queries), _QUERIES):
            part = queries[start : start + _QUERIES]
            values = _band(part, band)
            for difference in differences:
                looked_up = (values ^ difference).astype(np.int64)
                first = starts[looked_up]
                sizes = starts[looked_up + 1] - first
                query = np.repeat(np.arange(len(part)), sizes)
                within = np.arange(len(query)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
                other = order[np.repeat(first, sizes) + within]
                near = np.bitwise_count(part[query] ^ indexed[other]) <= NEAR
                found.append(np.stack((query[near] + start, other[near]), 1))
    return np.unique(np.concatenate(found), axis=0)


def _band(hashes: np.ndarray, band: int) -> np.ndarray:
    shift = np.uint64(band * _BAND_BITS)
    return (hashes >> shift) & np.uint64(2**_BAND_BITS - 1)
