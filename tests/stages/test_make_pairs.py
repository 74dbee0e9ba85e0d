"""The stage: what it writes, lists and refuses."""

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from PIL import Image

from pipeline.inspection.verify import verify_shards
from pipeline.pairs.index import PairSet, listed_pair_set
from pipeline.shards.manifest import Manifest
from stages import make_pairs
from stages.params import Params
from stages.runner.stage import Stage
from tvqrap.runtime.errors import UserError


@pytest.fixture
def stage(pairs, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TVQRAP_EXECUTOR", "serial")
    params = cast(Params, SimpleNamespace(data=data, pairs=pairs))
    return Stage("make_pairs", params, "fingerprint", tmp_path / "scratch")


def with_pairs(stage, **changes):
    """The stage with changes of its settings of pairs."""
    pairs = stage.params.pairs.model_copy(update=changes)
    params = SimpleNamespace(data=stage.params.data, pairs=pairs)
    return replace(stage, params=cast(Params, params))


def test_sets_are_published_and_losses_listed(stage, tmp_path, capsys):
    Path(stage.params.data.photos, "bad.jpg").write_bytes(b"bad")
    make_pairs.make_pairs(stage)
    for name in ("train", "test"):
        folder = tmp_path / "data/pairs" / name
        assert verify_shards(folder, hashes=True) == []
        assert listed_pair_set(folder.parent, name) == PairSet.of(Manifest.load(folder))
    printed = capsys.readouterr().out
    assert "8 photographs usable, 1 skipped" in printed
    assert "bad.jpg: not an image" in printed
    assert "train: 18 crops of 5 photographs in 4 shards" in printed


def test_names_of_photographs_move_no_cursor(stage, capsys):
    folder = Path(stage.params.data.photos)
    with Image.open(folder / "p1.png") as photo:
        for number in range(12):  # nearly the same, in all splits
            photo.putpixel((number, 0), (255, 0, 255))
            photo.save(folder / f"like{number}\x1b[2J.png")
    (folder / "bad\x1b[2J.jpg").write_bytes(b"bad")
    make_pairs.make_pairs(stage)
    printed = capsys.readouterr().out
    assert "near-duplicates in different splits" in printed
    assert r"bad\x1b[2J.jpg" in printed and r"like1\x1b[2J.png" in printed
    assert "\x1b" not in printed


def test_sets_can_be_stored_elsewhere(stage, tmp_path):
    make_pairs.make_pairs(stage)
    stage = with_pairs(stage, storage=str(tmp_path / "big disk"))
    stage = replace(stage, scratch=tmp_path / "work-0123")
    (tmp_path / "inside").mkdir()
    here = tmp_path / "data/pairs"
    before = {path.name: path.read_bytes() for path in (here / "train").glob("*.tar")}
    with contextlib.chdir(tmp_path / "inside"):
        make_pairs.make_pairs(stage)
        published = Path("data/pairs/train").resolve()
    assert {path.name for path in published.iterdir()} == {
        *("README.md", "index.parquet", "manifest.json"),
        *("near_duplicates.parquet", "skipped.parquet"),
    }
    for name in ("README.md", "index.parquet", "skipped.parquet"):
        assert (published / name).read_bytes() == (here / "train" / name).read_bytes()
    assert Manifest.load(published).root == Manifest.load(here / "train").root
    assert verify_shards(published, hashes=True) == []
    home = tmp_path / "big disk/work-0123/train"
    assert {path.name: path.read_bytes() for path in home.glob("*.tar")} == before


def test_a_teacher_that_cannot_be_read_is_refused_before_work(stage, tmp_path, capsys):
    train = stage.params.pairs.sets["train"].model_copy(update={"target": "both"})
    (tmp_path / "empty").mkdir()
    taught = with_pairs(stage, teacher=str(tmp_path / "empty"), sets={"train": train})
    with pytest.raises(UserError, match="empty: no model there"):
        make_pairs.make_pairs(taught)
    assert not capsys.readouterr().out


def test_too_much_loss_fails_the_stage(stage, tmp_path):
    for number in range(9):
        Path(stage.params.data.photos, f"bad{number}.jpg").write_bytes(b"bad")
    with pytest.raises(UserError, match=r"max_skipped_fraction: found 9 of 17 .* at most 50"):
        make_pairs.make_pairs(stage)
    assert not (tmp_path / "data").exists()


def test_all_counts_are_checked_before_any_set_is_cut(stage, tmp_path):
    sets = dict(stage.params.pairs.sets)
    sets["test"] = sets["test"].model_copy(update={"count": 10_000})
    with pytest.raises(
        UserError, match=r"^pairs\.sets\.test\.count: found 10000, expected at most"
    ):
        make_pairs.make_pairs(with_pairs(stage, sets=sets))
    assert not list((tmp_path / "scratch").rglob("*.tar"))


def test_a_kill_at_publishing_makes_no_shard_again(stage, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(make_pairs, "publish_sets", killed)
        make_pairs.make_pairs(stage)

    def made(folder: str) -> dict[Path, int]:
        paths = (tmp_path / folder).rglob("*.tar")
        return {path.relative_to(tmp_path / folder): path.stat().st_ino for path in paths}

    finished = made("scratch")
    make_pairs.make_pairs(stage)
    assert made("data/pairs") == finished and finished


def refused(*_):
    raise AssertionError("a photograph is scanned again")


def test_shards_of_other_runs_are_taken_over_unless_the_code_changed(
    stage, tmp_path, capsys, monkeypatch
):
    stage = replace(stage, code={"pipeline/code.py": "1"})
    make_pairs.make_pairs(stage)
    assert "in 4 shards, 0 of them made by earlier runs" in capsys.readouterr().out
    sets = dict(stage.params.pairs.sets)
    sets["test"] = sets["test"].model_copy(update={"count": 3})
    train = tmp_path / "data/pairs/train"
    before = {path.name: path.stat().st_ino for path in train.glob("*.tar")}
    shutil.rmtree(tmp_path / "data")  # as dvc does before a stage
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.sources.scan.decode", refused)  # the scan is kept too
        changed = with_pairs(stage, sets=sets)
        make_pairs.make_pairs(replace(changed, scratch=tmp_path / "scratch-2"))
    assert {path.name: path.stat().st_ino for path in train.glob("*.tar")} == before
    printed = capsys.readouterr().out
    assert "train: 18 crops of 5 photographs in 4 shards, 4 of them made by earlier" in printed
    assert "test: 3 crops of 1 photographs in 1 shards, 0 of them" in printed
    other = {"pipeline/code.py": "2"}
    make_pairs.make_pairs(replace(stage, code=other, scratch=tmp_path / "scratch-3"))
    assert "in 4 shards, 0 of them made by earlier runs" in capsys.readouterr().out


def test_shards_of_other_runs_in_a_storage_are_taken_over(stage, tmp_path, capsys):
    stage = with_pairs(stage, storage=str(tmp_path / "big disk"))
    for number in range(2):
        run = replace(stage, scratch=tmp_path / f"make_pairs-{number}")
        make_pairs.make_pairs(run)
        taken = 4 * number
        assert f"in 4 shards, {taken} of them made by earlier" in capsys.readouterr().out
        train = tmp_path / f"big disk/make_pairs-{number}/train"
        assert verify_shards(train, hashes=True) == []
