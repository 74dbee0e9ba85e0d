"""`tvqrap-cli evaluate --pairs` with shards that another program wrote."""

import csv
import json
from pathlib import Path

from typer.testing import CliRunner, Result

from pipeline.shards.codec import encode_png
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, write_shard
from tests.support.pairs import texture
from tvqrap.cli.main import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_their_faults_are_named_and_the_rest_is_scored(tmp_path: Path) -> None:
    """Photographs of any name, sizes that do not fit, and a key that is there twice."""

    def sample(key: str, photo: str, height: int = 64, width: int = 64) -> Sample:
        members = {
            "hr.png": encode_png(texture(1, height, width)),
            "lr0.png": encode_png(texture(2, 16, 16)),
            "json": json.dumps({"photo": photo}).encode(),
        }
        return Sample(key, members)

    folder, out = tmp_path / "pairs", tmp_path / "out"
    folder.mkdir()
    samples = [sample("a", "\ud800\n"), sample("b", "b", 40, 600)]
    shard = write_shard(folder / "000000.tar", samples)
    Manifest("pairs", "test", {}, (shard,)).save(folder)
    arguments = ["evaluate", "bicubic", "--pairs", folder, "--metrics", "psnr_y", "-o"]
    result = run(*arguments, out)
    assert result.exit_code == 1 and "64x64 image against 600x40 HR" in result.output
    with (out / "per_image.csv").open() as file:
        assert [line["photo"] for line in csv.DictReader(file)] == ["\\ud800\\x0a", "b"]
    again = write_shard(folder / "000001.tar", [sample("a", "other")])
    Manifest("pairs", "test", {}, (shard, again)).save(folder)
    result = run(*arguments, tmp_path / "twice")
    assert result.exit_code == 1 and "a: is there twice" in result.output
