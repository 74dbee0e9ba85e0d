"""`tvqrap-cli pairs` on a set made for the test."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import stages.params
from pipeline.config import PairsSettings
from pipeline.shards.codec import decode_png, encode_png
from pipeline.shards.index import write_index
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard, write_shard
from tests.support.pairs import PAIRS, data_settings, texture
from tests.support.tokens import make_material
from tvqrap.cli.pairs import app
from tvqrap.runtime.errors import UsageError, UserError


@pytest.fixture
def folder(tmp_path):
    sample = Sample("a_00000", {"hr.png": encode_png(np.zeros((8, 8, 3), np.uint8))})
    (tmp_path / "sets/train").mkdir(parents=True)
    row = write_shard(tmp_path / "sets/train/000000.tar", [sample])
    manifest = Manifest("pairs", "train", {"settings": {"size": 8}}, (row,))
    manifest.save(tmp_path / "sets/train")
    write_index(tmp_path / "sets/train", manifest)
    return tmp_path / "sets"


def call(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def refused(*arguments: object) -> BaseException:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, UserError)
    return result.exception


def test_inspect_and_verify(folder):
    assert "1 in 1 shards" in call("inspect", folder)
    assert "set train" in call("inspect", folder / "train")
    assert "sound" in call("verify", folder, "--full")
    with (folder / "train/000000.tar").open("rb+") as file:
        file.truncate(1024)
    assert "1024 bytes, expected" in call("verify", folder, code=1)
    assert "found no manifest.json" in str(refused("verify", folder.parent))


def test_preview_draws_a_sheet(tmp_path, monkeypatch):
    data = data_settings("unused", min_side=32, max_pixels=10**6, max_skipped_fraction=0.0)
    params = SimpleNamespace(data=data, pairs=PairsSettings.model_validate(PAIRS))
    monkeypatch.setattr(stages.params, "load_params", lambda path: params)
    Image.fromarray(texture(1, 150, 200)).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", tmp_path):
        sheet = tmp_path.parent / "sheet.png"
        call("preview", source, "-o", sheet, "--rows", "2", "--size", "64", "--overwrite")
        image = Image.open(io.BytesIO(Path(sheet).read_bytes()))
        assert image.width >= 8 * 256
        assert image.height == 2 * (256 + 30 + 8) + 8
    again = sheet.read_bytes()
    assert "--overwrite replaces it" in str(refused("preview", tmp_path, "-o", sheet))
    sheet.unlink()
    call("preview", tmp_path, "-o", sheet, "--rows", "2", "--size", "64")
    assert sheet.read_bytes() == again
    sheet.unlink()

    photo = (tmp_path / "a.png").read_bytes()
    own = ("preview", tmp_path / "a.png", "-o", tmp_path / "a.png", "--overwrite")
    assert "is the photograph itself" in str(refused(*own))
    assert (tmp_path / "a.png").read_bytes() == photo

    (tmp_path / "b").mkdir()
    (tmp_path / "b/bad.jpg").write_bytes(b"bad")
    assert "not an image" in str(refused("preview", tmp_path / "b", "-o", sheet))
    wrong = refused("preview", tmp_path, "-o", sheet, "--degradation", "none")
    assert isinstance(wrong, UsageError)
    assert "expected one of train" in str(wrong)
    assert "multiple of 4" in str(refused("preview", tmp_path, "-o", sheet, "--size", "63"))


def test_preview_needs_no_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(texture(1, 256, 256)).save("a.png")
    assert "degradation real" in call("preview", "a.png", "-o", "b.png", "--degradation", "real")


def test_preview_draws_a_stored_sample(tmp_path):
    pairs, _ = make_material(tmp_path, count=2, shard_size=2)
    sample = next(read_shard(pairs / "000000.tar"))
    sheet = tmp_path / "sheet.png"
    assert f"sample {sample.key}" in call("preview", sample.key, "--pairs", pairs, "-o", sheet)
    drawn = np.asarray(Image.open(sheet))
    hr = decode_png(sample.members["hr.png"])
    lr = decode_png(sample.members["lr1.png"]).repeat(4, 0).repeat(4, 1)
    assert (drawn[34:98, 8:72] == hr).all()
    assert (drawn[34:98, 152:216] == lr).all()
    absent = refused("preview", "absent", "--pairs", pairs, "-o", tmp_path / "x.png")
    assert "found no sample absent" in str(absent)
