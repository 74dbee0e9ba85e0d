"""Sets of pairs: the same bytes by every executor, and resumed after a kill."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.config import PairsSettings, SplitSettings
from pipeline.executor.shared_storage import FilesProof, WrittenProof
from pipeline.inspection.verify import verify_shards
from pipeline.pairs.crops import Crop, cut
from pipeline.pairs.degradation import degrade
from pipeline.pairs.make import make_set
from pipeline.pairs.shard import PairShard
from pipeline.pairs.toolchain import Toolchain
from pipeline.rng import random_stream
from pipeline.shards.codec import decode_png
from pipeline.shards.manifest import Manifest, Skipped
from pipeline.shards.tar import read_shard
from pipeline.sources.photos import Photo, photo_key
from pipeline.sources.scan import PhotoScan, scan_photos
from pipeline.sources.scanned import ScannedPhoto, ScannedPhotos
from pipeline.storage.location import file_sha256
from tests.support.pairs import PAIRS, texture
from tests.support.paths import ROOT
from tvqrap.runtime.errors import UserError


def changed(**sets) -> PairsSettings:
    """The pairs' settings with changed keys of the set `train`."""
    train = PAIRS["sets"]["train"] | sets
    return PairsSettings.model_validate(PAIRS | {"sets": {"train": train}})


def build(pairs, data, work, name="train", executor="serial", workers=1, **options) -> Manifest:
    scan = scan_photos(data, executor="serial", workers=1)
    return make_set(name, pairs, data, scan, work, executor=executor, workers=workers, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_bytes_whatever_the_workers(pairs, data, tmp_path):
    here = build(pairs, data, tmp_path / "a")
    one = build(pairs, data, tmp_path / "b", executor="processes", workers=1)
    two = build(pairs, data, tmp_path / "c", executor="processes", workers=2)
    assert here.root == one.root == two.root
    assert content(tmp_path / "a/train") == content(tmp_path / "b/train")
    assert content(tmp_path / "a/train") == content(tmp_path / "c/train")
    assert verify_shards(tmp_path / "a/train", hashes=True) == []
    assert [row.samples for row in here.shards] == [5, 5, 5, 3]


def test_samples_are_what_their_records_say(pairs, data, tmp_path):
    manifest = build(pairs, data, tmp_path)
    seen = []
    for row in manifest.shards:
        for sample in read_shard(tmp_path / "train" / row.name):
            about = json.loads(sample.members["json"])
            hr = decode_png(sample.members["hr.png"])
            left, top, right, _ = (int(value) for value in about["box"])
            photo = np.asarray(Image.open(Path(data.photos, about["photo"])))
            crop = Crop(left, top, right - left, about["flip"], tuple(about["channels"]))
            np.testing.assert_array_equal(hr, cut(photo, "zoom", 32, crop))
            key = photo_key(about["photo"])
            assert sample.key == f"{key}_{about['crop']:05d}"
            for variant, record in enumerate(about["degradations"]):
                rng = random_stream(1, "train", "degrade", key, about["crop"], variant)
                again = degrade(hr, pairs.degradations["train"], rng)
                lr = decode_png(sample.members[f"lr{variant}.png"])
                np.testing.assert_array_equal(lr, again.image)
                assert record == json.loads(json.dumps(again.record))
            assert about["degradations"][0] != about["degradations"][1]
            seen.append(sample.key)
    assert len(set(seen)) == manifest.samples == 18
    counts = [sum(key.startswith(f"p{n}-") for key in seen) for n in range(8)]
    assert set(counts) - {0} <= {3, 4}  # 18 crops over 5 photographs
    assert sum(count > 0 for count in counts) == manifest.extra["photographs"] == 5


def test_sets_use_photographs_of_their_split_only(pairs, data, tmp_path):
    photos = {}
    for name in pairs.sets:
        manifest = build(pairs, data, tmp_path, name)
        photos[name] = {
            json.loads(sample.members["json"])["photo"]
            for row in manifest.shards
            for sample in read_shard(tmp_path / name / row.name)
        }
    assert photos["train"]
    assert photos["test"]
    assert not photos["train"] & photos["test"]


def test_a_shard_mixes_photographs_and_a_photograph_is_decoded_once(data, tmp_path, monkeypatch):
    import pipeline.pairs.shard

    decoded = []
    content_of = pipeline.pairs.shard.content_of
    monkeypatch.setattr(
        pipeline.pairs.shard,
        "content_of",
        lambda *given: decoded.append(given[1].key) or content_of(*given),
    )
    scan = scan_photos(data, executor="serial", workers=1)
    decoded.clear()
    pairs = changed(count=40)
    manifest = make_set("train", pairs, data, scan, tmp_path, executor="serial", workers=1)
    assert len(decoded) == len(set(decoded)) == 5
    for row in manifest.shards:
        keys = {s.key.split("_")[0] for s in read_shard(tmp_path / "train" / row.name)}
        assert len(keys) >= 2


def test_more_crops_leave_the_earlier_ones_alone(data, tmp_path):
    few, many = (build(changed(count=n), data, tmp_path / str(n)) for n in (10, 25))

    def members(manifest: Manifest, folder: Path) -> dict[str, dict[str, bytes]]:
        rows = [folder / "train" / row.name for row in manifest.shards]
        return {sample.key: sample.members for row in rows for sample in read_shard(row)}

    before, after = members(few, tmp_path / "10"), members(many, tmp_path / "25")
    assert before.items() <= after.items()


def test_resumes_from_finished_shards_only_with_the_same_settings(pairs, data, tmp_path):
    whole = build(pairs, data, tmp_path / "whole")
    work = tmp_path / "work"
    build(pairs, data, work)
    kept = (work / "train/000001.tar").stat().st_mtime_ns
    (work / "train/000000.tar").unlink()  # never finished
    (work / "train/000002.tar").write_bytes(b"damaged")
    (work / "rows/train/000003.tar.json").write_text("damaged")
    (work / "train/.tvqrap.00000000.99.00000000.tmp").write_bytes(b"left by a dead writer")
    heard: list[int] = []
    manifest = build(pairs, data, work, advance=heard.append)
    assert manifest.root == whole.root
    assert content(work / "train") == content(tmp_path / "whole/train")
    assert (work / "train/000001.tar").stat().st_mtime_ns == kept
    assert sum(heard) == 18

    other = build(changed(flips="none"), data, work)
    assert other.root == build(changed(flips="none"), data, tmp_path / "fresh").root != whole.root


def samples_of(folder: Path) -> dict[str, tuple[np.ndarray, dict[str, bytes]]]:
    """HR and members of each sample, by key."""
    found = [each for path in sorted(folder.glob("*.tar")) for each in read_shard(path)]
    return {each.key: (decode_png(each.members["hr.png"]), each.members) for each in found}


def test_both_stores_each_crop_as_it_is_and_its_mirror_image(data, tmp_path):
    """Those that are not mirrored are the samples of `none`, bit by bit."""
    build(changed(flips="none"), data, tmp_path / "none")
    both = build(changed(flips="both"), data, tmp_path / "both")
    assert both.samples == changed(flips="both").sets["train"].samples == 36
    plain, found = samples_of(tmp_path / "none/train"), samples_of(tmp_path / "both/train")
    assert set(found) == {*plain, *(f"{key}m" for key in plain)}
    for key, (hr, members) in plain.items():
        assert found[key][1] == members
        mirror, others = found[f"{key}m"]
        np.testing.assert_array_equal(mirror, hr[:, ::-1])
        as_is, mirrored = (json.loads(each["json"]) for each in (members, others))
        assert (as_is["flip"], mirrored["flip"]) == (False, True)
        assert (as_is["box"], as_is["channels"]) == (mirrored["box"], mirrored["channels"])
        assert as_is["degradations"] != mirrored["degradations"], "they are degraded alike"


def test_another_photograph_under_the_same_name_is_not_resumed(pairs, data, tmp_path):
    before = build(pairs, data, tmp_path)
    for path in Path(data.photos).iterdir():
        with Image.open(path) as image:
            pixels = 255 - np.asarray(image)
        Image.fromarray(pixels).save(path)
    assert build(pairs, data, tmp_path).root != before.root


DRIVER = """
import json, sys
from pathlib import Path
from pipeline.pairs.make import make_set
from pipeline.sources.scan import scan_photos
from pipeline.config import DataSettings, PairsSettings
if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    data = DataSettings.model_validate(given["data"])
    pairs = PairsSettings.model_validate(given["pairs"])
    scan = scan_photos(data, executor="serial", workers=1)
    make_set("train", pairs, data, scan, Path(sys.argv[1]), executor="processes", workers=2)
"""


def test_killed_and_resumed_gives_the_same_bytes(data, tmp_path):
    pairs = changed(count=300)
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    given = {"data": data.model_dump(mode="json"), "pairs": pairs.model_dump(mode="json")}
    work = tmp_path / "work"
    driver = subprocess.Popen(
        [sys.executable, str(script), str(work)],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert driver.stdin is not None
    driver.stdin.write(json.dumps(given).encode())
    driver.stdin.close()
    deadline = time.monotonic() + 120
    while len(list(work.glob("rows/train/*.json"))) < 3:
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(0.5)  # for the workers to notice
    rows = list(work.glob("rows/train/*.json"))
    assert not (work / "train/manifest.json").exists()
    kept = {path.stem: (work / f"train/{path.stem}").stat().st_mtime_ns for path in rows}
    assert build(pairs, data, work).root == build(pairs, data, tmp_path / "whole").root
    assert content(work / "train") == content(tmp_path / "whole/train")
    for stem, time_ns in kept.items():
        assert (work / f"train/{stem}").stat().st_mtime_ns == time_ns


def test_photographs_too_small_for_a_set_are_listed(data, tmp_path):
    manifest = build(changed(size=72, count=6), data, tmp_path)
    (reason,) = manifest.skipped
    assert reason == "NxN pixels, too small for zoom N"
    listed = pq.read_table(tmp_path / "train/skipped.parquet").to_pylist()
    assert len(listed) == manifest.skipped[reason] > 0
    assert all("too small for zoom 72" in entry["reason"] for entry in listed)


def test_a_set_that_asks_for_too_much(data, tmp_path):
    with pytest.raises(UserError, match=r"pairs\.sets\.train\.count: found 5000, expected at most"):
        build(changed(crop_mode="centre", count=5000), data, tmp_path)
    with pytest.raises(UserError, match="expected at most 0"):
        build(changed(size=512), data, tmp_path)


def test_a_failing_shard_ends_the_set_by_name(pairs, data, tmp_path):
    scan = scan_photos(data, executor="serial", workers=1)
    chosen = scan.splits(pairs)["train"]
    name = scan.usable[int(chosen[1])].photo.key.split("-")[0]
    with Path(data.photos, f"{name}.png").open("ab") as file:
        file.write(b"another since")
    said = rf"pairs\.sets\.train: \d of 4 shards failed: .*{name}\.png: found SHA-256"
    with pytest.raises(UserError, match=said) as caught:
        make_set("train", pairs, data, scan, tmp_path, executor="serial", workers=1)
    (log,) = (tmp_path / "logs/train").iterdir()
    assert str(caught.value).endswith(f"; tracebacks in {log}")
    tries = [json.loads(line) for line in log.read_text().splitlines()]
    failed = [entry for entry in tries if "error" in entry]
    assert {entry["attempt"] for entry in failed} == {1, 2}
    assert 2 * len({entry["shard"] for entry in failed}) == len(failed) > 0
    assert all("Traceback" in entry["traceback"] for entry in failed)
    assert not (tmp_path / "train/manifest.json").exists()


def test_a_photograph_that_is_gone_is_named(pairs, data, tmp_path):
    scan = scan_photos(data, executor="serial", workers=1)
    for path in Path(data.photos).iterdir():
        path.unlink()
    with pytest.raises(
        UserError, match=r"shards failed: 000000\.tar: UserError: /.*/p\d\.png: no such file;"
    ):
        make_set("train", pairs, data, scan, tmp_path, executor="serial", workers=1)


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_worker_with_other_photographs_or_another_folder_is_refused(
    executor, pairs, data, tmp_path, monkeypatch
):
    scan = scan_photos(data, executor="serial", workers=1)
    hidden = tmp_path / "hidden"

    def elsewhere(cls, folder, names):
        return cls(hidden, real(cls, folder, names).hashes)

    real = FilesProof.of.__func__
    with monkeypatch.context() as patched:
        patched.setattr(FilesProof, "of", classmethod(elsewhere))
        with pytest.raises(UserError, match=r"sees nothing in .*hidden/p0\.png where the driver"):
            scan_photos(data, executor=executor, workers=1)
        with pytest.raises(UserError, match=r"sees nothing in .*hidden/p\d\.png where the driver"):
            make_set("train", pairs, data, scan, tmp_path, executor=executor, workers=1)
    monkeypatch.setattr(
        WrittenProof, "beside", lambda out: WrittenProof(out.with_suffix(".storage"), "never there")
    )
    with pytest.raises(UserError, match=r"does not see the driver's .*train\.storage"):
        make_set("train", pairs, data, scan, tmp_path / "other", executor=executor, workers=1)


def test_a_set_never_mixes_two_toolchains(pairs, data, tmp_path, monkeypatch):
    first = build(pairs, data, tmp_path)
    assert first.extra["machine"] == asdict(Toolchain.here(teacher=False))
    assert first.extra["machine"]["opencv"] == cv2.__version__
    here = Toolchain.here(teacher=False)
    other = replace(here, opencv="4.0")
    monkeypatch.setattr(Toolchain, "here", lambda teacher: other)
    (tmp_path / "train/000002.tar").unlink()
    made = []
    again = build(pairs, data, tmp_path, advance=made.append)
    assert again.extra["machine"] == asdict(other), "the earlier run's shards are made again"
    assert sum(made) == 18
    kinds = itertools.cycle([here, other])
    monkeypatch.setattr(
        "pipeline.pairs.shard.PairShard", lambda row, machine: PairShard(row, next(kinds))
    )
    with pytest.raises(UserError, match=r"made on OpenCV 4\.0, .*expected workers of one kind"):
        build(pairs, data, tmp_path / "mixed")
    assert not (tmp_path / "mixed/train/manifest.json").exists()


def test_ray_gives_the_same_bytes(pairs, data, tmp_path, ray_cluster):
    here = build(pairs, data, tmp_path / "here")
    ray = build(pairs, data, tmp_path / "ray", executor="ray", workers=2)
    assert here.root == ray.root
    assert content(tmp_path / "here/train") == content(tmp_path / "ray/train")


def test_near_duplicates_and_skipped_photographs_are_counted_and_listed(pairs, data, tmp_path):
    for number in range(8):
        image = texture(number, 64 + 7 * number, 100 - 5 * number)
        Image.fromarray(image).save(Path(data.photos, f"copy{number}.jpg"), quality=80)
    Path(data.photos, "bad.png").write_bytes(b"")
    manifest = build(pairs, data, tmp_path)
    assert manifest.skipped == {"not an image of a known format": 1}
    (skipped,) = pq.read_table(tmp_path / "train/skipped.parquet").to_pylist()
    assert skipped == {"name": "bad.png", "reason": "not an image of a known format"}
    found = pq.read_table(tmp_path / "train/near_duplicates.parquet").to_pylist()
    assert len(found) == manifest.extra["near_duplicates"] > 0
    for row in found:
        assert row["first"][-5] == row["second"][-5]  # pN.png and copyN.jpg
        assert row["different_bits"] <= 10


def test_skipped_fraction():
    assert PhotoScan(ScannedPhotos.of(()), (Skipped("a", "b"),)).skipped_fraction == 1
    assert PhotoScan(ScannedPhotos.of(()), ()).skipped_fraction == 0


def test_planning_grows_with_the_photographs_and_not_with_their_square(pairs, data, tmp_path):
    """As many photographs as ImageNet has would otherwise be planned for days."""
    seed = np.random.default_rng(0)
    sha256 = file_sha256(Path(data.photos, "p0.png"))
    entries = ScannedPhotos.of(
        ScannedPhoto(
            Photo(f"p{number:06d}", "p0.png"), 100 if number % 2 else 40, 64, sha256, int(bits)
        )
        for number, bits in enumerate(seed.integers(0, 2**63, 30_000))
    )
    splits = SplitSettings(train=1.0, val=0.0, test=0.0)  # equal files are in one split
    pairs = changed(count=1, size=64).model_copy(update={"splits": splits})
    start = time.process_time()
    manifest = make_set(
        "train", pairs, data, PhotoScan(entries, ()), tmp_path, executor="serial", workers=1
    )
    assert time.process_time() - start < 20
    assert manifest.samples == 1
    assert sum(manifest.skipped.values()) == 15_000 and len(manifest.skipped) == 1
    assert (tmp_path / "train/manifest.json").stat().st_size < 20_000
