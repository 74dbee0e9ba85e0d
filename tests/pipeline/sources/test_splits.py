"""Splits by photograph and near-duplicates."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.config import SplitSettings
from pipeline.sources.splits import near_duplicates, perceptual_hash, split_photos
from tests.support.pairs import texture
from tvqrap.runtime.errors import UserError

SHARES = SplitSettings(train=0.6, val=0.1, test=0.3)


def keys(count: int) -> np.ndarray:
    return np.array([f"photo{number}" for number in range(count)], np.bytes_)


@given(st.integers(3, 300), st.integers(0, 5))
def test_every_photograph_is_in_one_split_of_the_right_size(count, seed):
    splits = split_photos(keys(count), SHARES, seed)
    assert sorted(number for split in splits.values() for number in split) == list(range(count))
    for name, share in SHARES.model_dump().items():
        assert len(splits[name]) >= 1
        assert abs(len(splits[name]) - share * count) < (2 if count < 10 else 1)


def test_order_of_the_keys_does_not_matter_and_the_seed_does():
    def split(keys, seed):
        found = split_photos(keys, SHARES, seed)
        return {name: set(keys[numbers].tolist()) for name, numbers in found.items()}

    splits = split(keys(40), 1)
    assert split(keys(40)[::-1], 1) == splits
    assert split(keys(40), 2) != splits


def test_too_few_photographs():
    with pytest.raises(UserError, match="found 2 usable photographs"):
        split_photos(keys(2), SHARES, 1)
    assert split_photos(keys(1), SplitSettings(train=1.0, val=0.0, test=0.0), 1)["val"].size == 0


def test_near_duplicates_are_found_across_splits_only():
    images = [texture(seed, 200, 300) for seed in range(6)]
    stream = io.BytesIO()
    Image.fromarray(images[0]).resize((210, 140)).save(stream, "JPEG", quality=60)
    copy = np.asarray(Image.open(stream))
    hashes = [perceptual_hash(image) for image in (*images, copy, images[1])]
    splits = {"train": [0, 1, 7], "val": [2, 3], "test": [4, 5, 6]}
    found = near_duplicates(
        {name: np.array(numbers) for name, numbers in splits.items()}, np.array(hashes, np.uint64)
    )
    assert [(first, second) for first, second, _ in found] == [(0, 6)], "the copy"
