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


def keys(count: int) -> list[str]:
    return [f"photo{number}" for number in range(count)]


@given(st.integers(3, 300), st.integers(0, 5))
def test_every_photograph_is_in_one_split_of_the_right_size(count, seed):
    splits = split_photos(keys(count), SHARES, seed)
    assert sorted(key for split in splits.values() for key in split) == sorted(keys(count))
    for name, share in SHARES.model_dump().items():
        assert len(splits[name]) >= 1
        assert abs(len(splits[name]) - share * count) < (2 if count < 10 else 1)


def test_order_of_the_keys_does_not_matter_and_the_seed_does():
    splits = split_photos(keys(40), SHARES, 1)
    assert split_photos(keys(40)[::-1], SHARES, 1) == splits
    assert split_photos(keys(40), SHARES, 2) != splits


def test_too_few_photographs():
    with pytest.raises(UserError, match="found 2 usable photographs"):
        split_photos(keys(2), SHARES, 1)
    assert split_photos(keys(1), SplitSettings(train=1.0, val=0.0, test=0.0), 1)["val"] == []


def test_near_duplicates_are_found_across_splits_only():
    images = [texture(seed, 200, 300) for seed in range(6)]
    stream = io.BytesIO()
    Image.fromarray(images[0]).resize((210, 140)).save(stream, "JPEG", quality=60)
    copy = np.asarray(Image.open(stream))
    hashes = {f"p{number}": perceptual_hash(image) for number, image in enumerate(images)}
    hashes |= {"copy": perceptual_hash(copy), "same": hashes["p1"]}
    splits = {"train": ["p0", "p1", "same"], "val": ["p2", "p3"], "test": ["p4", "p5", "copy"]}
    found = near_duplicates(splits, hashes)
    assert [(first, second) for first, second, _ in found] == [("p0", "copy")]
