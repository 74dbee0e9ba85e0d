"""Teachers: read from model folders and published files, in the pairs of every target."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import DataSettings, PairsSettings
from pipeline.inspection.verify import verify_shards
from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.pairs.degradation import degrade
from pipeline.pairs.make import make_set
from pipeline.rng import random_stream
from pipeline.shards.codec import decode_png
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from pipeline.sources.scan import scan_photos
from pipeline.teacher import Teacher, teacher_of
from pipeline.tokens.extract import extract_set
from tests.support.pairs import PAIRS, TRAIN, texture
from tests.support.tokens import SETTINGS, SMALL
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import read_config, save_model
from tvqrap.runtime.errors import UserError
from tvqrap.upscaling.upscaler import Upscaler


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of ours."""
    return model(tmp_path / "teacher", seed=0)


def model(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_model(folder, "upscaler", UpscalerNetwork(SMALL), SMALL, {})
    return folder


def asking(teacher: Path | str, **changes: Any) -> PairsSettings:
    """Settings of a set `train` with a teacher, and with changed keys."""
    train = PAIRS["sets"]["train"] | {"size": 64, "count": 7, "target": "both"} | changes
    presets = {"train": TRAIN, "mild": TRAIN | {"second": None}}
    return PairsSettings.model_validate(
        PAIRS | {"teacher": str(teacher), "sets": {"train": train}, "degradations": presets}
    )


def build(pairs: PairsSettings, data: DataSettings, work: Path, **options: Any) -> Manifest:
    options = {"executor": "serial", "workers": 1, "teacher": teacher_of(pairs), **options}
    scan = scan_photos(data, executor="serial", workers=1)
    return make_set("train", pairs, data, scan, work, **options)


def samples(work: Path) -> dict[str, Sample]:
    rows = Manifest.load(work / "train").shards
    return {each.key: each for row in rows for each in read_shard(work / "train" / row.name)}


def test_a_model_folder_teaches_what_it_upscales(folder: Path) -> None:
    teacher = teacher_of(asking(folder))
    assert teacher is not None and teacher.fingerprint == read_config(folder).fingerprint
    for height, width in ((16, 32), (24, 8)):
        lr = texture(1, height, width)
        picture = teacher.load()(lr)
        np.testing.assert_array_equal(picture, teacher.load()(lr))
        whole = Upscaler.from_pretrained(folder, pad_multiple=SMALL.lr_multiple)(lr)
        assert np.abs(picture.astype(int) - whole).max() <= 1


def test_a_published_file_teaches(tmp_path: Path) -> None:
    pytest.importorskip("spandrel")
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    network = ESRGAN(num_filters=8, num_blocks=1, scale=4, in_nc=3).eval()
    torch.save(network.state_dict(), tmp_path / "x4.pth")
    teacher = teacher_of(asking(tmp_path / "x4.pth"))
    assert teacher is not None
    lr = texture(1, 12, 10)
    with torch.no_grad():
        made = network(torch.from_numpy(lr).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0)
    expected = (made.clamp(0, 1) * 255).round().byte().numpy()
    np.testing.assert_array_equal(teacher.load()(lr), expected)
    small = ESRGAN(num_filters=8, num_blocks=1, scale=2, in_nc=3)
    torch.save(small.state_dict(), tmp_path / "x2.pth")
    with pytest.raises(UserError, match=r"x2\.pth: ESRGAN of scale 2, expected 4"):
        teacher_of(asking(tmp_path / "x2.pth"))


def test_what_cannot_teach_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"none: no model there"):
        teacher_of(asking(tmp_path / "none"))
    with pytest.raises(UserError, match=r"pairs\.teacher: found .*nowhere, which does not exist"):
        teacher_of(asking(tmp_path / "nowhere"))
    save_model(tmp_path / "tokenizer", "tokenizer", Tokenizer(SMALL), SMALL, {})
    with pytest.raises(UserError, match=r"holds a tokenizer, expected an upscaler"):
        teacher_of(asking(tmp_path / "tokenizer"))
    assert teacher_of(asking(tmp_path / "none", target="photo")) is None
    with pytest.raises(UserError, match=r"found a teacher .*, expected 0123456789ab"):
        Teacher(folder, "0123456789abcdef", "float32").load()
    with pytest.raises(ValueError, match=r"sets\.train\.target: found 'both' with teacher: models"):
        asking("models/none")
    with pytest.raises(ValueError, match=r"variants: found 2, expected 1 with target teacher"):
        asking(folder, target="teacher")


def test_both_targets_lie_side_by_side(folder: Path, data: DataSettings, tmp_path: Path) -> None:
    pairs = asking(folder)
    manifest = build(pairs, data, tmp_path / "both")
    build(asking(folder, target="photo"), data, tmp_path / "photo")
    assert manifest.params["teacher"] == read_config(folder).fingerprint
    assert verify_shards(tmp_path / "both/train", hashes=True) == []
    teacher = teacher_of(pairs)
    assert teacher is not None
    teach = teacher.load()
    without = samples(tmp_path / "photo")
    for key, sample in samples(tmp_path / "both").items():
        for variant in range(2):
            lr = decode_png(sample.members[f"lr{variant}.png"])
            picture = decode_png(sample.members.pop(f"teacher{variant}.png"))
            np.testing.assert_array_equal(picture, teach(lr))
        assert sample.members == without[key].members, "HR, LR and record are as without a teacher"


def test_hr_can_be_the_teachers_picture(folder: Path, data: DataSettings, tmp_path: Path) -> None:
    pairs = asking(folder, target="teacher", variants=1)
    build(pairs, data, tmp_path / "teacher")
    build(asking(folder, variants=1), data, tmp_path / "both")
    beside = samples(tmp_path / "both")
    for key, sample in samples(tmp_path / "teacher").items():
        assert sample.members["hr.png"] == beside[key].members["teacher0.png"]
        assert sample.members["lr0.png"] == beside[key].members["lr0.png"]
        assert set(sample.members) == {"hr.png", "lr0.png", "json"}


def test_bytes_do_not_depend_on_the_workers(
    folder: Path, data: DataSettings, tmp_path: Path, ray_cluster: Any
) -> None:
    pairs = asking(folder)
    roots = {build(pairs, data, tmp_path / "here").root}
    roots.add(build(pairs, data, tmp_path / "two", executor="processes", workers=2).root)
    roots.add(build(pairs, data, tmp_path / "ray", executor="ray", workers=2).root)
    assert len(roots) == 1


def test_another_teacher_makes_the_set_again(
    folder: Path, data: DataSettings, tmp_path: Path
) -> None:
    first = build(asking(folder), data, tmp_path / "work")
    other = model(tmp_path / "other", seed=1)
    second = build(asking(other), data, tmp_path / "work")
    fresh = build(asking(other), data, tmp_path / "fresh")
    assert second.root == fresh.root != first.root


def test_a_teacher_can_compute_in_bfloat16(
    folder: Path, data: DataSettings, tmp_path: Path
) -> None:
    pairs = asking(folder, count=2)
    full = build(pairs, data, tmp_path)
    before = samples(tmp_path)
    rounded = build(pairs.model_copy(update={"teacher_precision": "bfloat16"}), data, tmp_path)
    formats = [manifest.params["teacher_precision"] for manifest in (full, rounded)]
    assert formats == ["float32", "bfloat16"] and full.root != rounded.root
    for key, sample in samples(tmp_path).items():
        for name, content in sample.members.items():
            if not name.startswith("teacher"):
                assert content == before[key].members[name]
                continue
            one, other = (decode_png(data) for data in (content, before[key].members[name]))
            difference = np.abs(one.astype(int) - other)
            assert difference.max() > 0 and difference.mean() < 4
    with pytest.raises(ValueError, match=r"teacher_precision\n.*'float32' or 'bfloat16'"):
        PairsSettings.model_validate(PAIRS | {"teacher_precision": "float16"})


def test_a_training_is_given_the_picture_of_its_variant(
    folder: Path, data: DataSettings, tmp_path: Path
) -> None:
    build(asking(folder), data, tmp_path)
    kept = samples(tmp_path)
    wanted = MemberSelection(lr=True, teacher=True)
    loader = Loader(ShardedDataset.open(tmp_path / "train"), wanted, seed=0, batch_size=7)
    batch = next(loader.batches(0))
    assert batch.lr is not None and batch.teacher is not None
    shown = set()
    for key, lr, picture in zip(batch.keys, batch.lr, batch.teacher, strict=True):
        members = {name: data for name, data in kept[key].members.items() if name != "json"}
        (variant,) = {
            variant
            for variant in range(2)
            if np.array_equal(decode_png(members[f"lr{variant}.png"]), lr.numpy())
        }
        np.testing.assert_array_equal(decode_png(members[f"teacher{variant}.png"]), picture.numpy())
        shown.add(variant)
    assert shown == {0, 1}


def test_tokens_do_not_carry_the_pictures(folder: Path, data: DataSettings, tmp_path: Path) -> None:
    build(asking(folder), data, tmp_path / "pairs")
    save_model(tmp_path / "tokenizer", "tokenizer", Tokenizer(SMALL), SMALL, {})
    options: Any = {"executor": "serial", "workers": 1}
    extract_set(
        tmp_path / "pairs/train", tmp_path / "tokenizer", tmp_path / "tokens", SETTINGS, **options
    )
    for sample in samples(tmp_path / "tokens").values():
        assert set(sample.members) == {"codes.npy", "structure.npy", "lr0.png", "lr1.png", "json"}


def test_a_mixture_draws_its_presets_by_their_shares(data: DataSettings, tmp_path: Path) -> None:
    mixture = {"train": 0.25, "mild": 0.75}
    pairs = asking("models/none", target="photo", degradation=mixture, size=32, count=60)
    manifest = build(pairs, data, tmp_path)
    assert set(manifest.params["degradations"]) == set(mixture)
    drawn = []
    for key, sample in samples(tmp_path).items():
        about = json.loads(sample.members["json"])
        photo, hr = key.split("_")[0], decode_png(sample.members["hr.png"])
        for variant, preset in enumerate(about["presets"]):
            rng = random_stream(1, "train", "degrade", photo, about["crop"], variant)
            rng.random()
            again = degrade(hr, pairs.degradations[preset], rng)
            np.testing.assert_array_equal(
                decode_png(sample.members[f"lr{variant}.png"]), again.image
            )
        drawn += about["presets"]
    assert 0.6 < drawn.count("mild") / len(drawn) < 0.9


def test_a_mixture_of_one_preset_is_the_preset(data: DataSettings, tmp_path: Path) -> None:
    plain = build(asking("models/none", target="photo"), data, tmp_path / "plain")
    mixed = asking("models/none", target="photo", degradation={"train": 1.0})
    assert build(mixed, data, tmp_path / "mixed").root == plain.root


@pytest.mark.parametrize(
    ("mixture", "words"),
    [
        ({"train": 0.5, "mild": 0.4}, "make 0.9, expected a sum of 1"),
        ({"train": 0.5, "heavy": 0.5}, "found 'heavy', expected one of train, mild"),
        ({}, "at least 1"),
        ({"train": -1.0, "mild": 2.0}, "greater than or equal to 0"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(mixture: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        asking("models/none", target="photo", degradation=mixture)
