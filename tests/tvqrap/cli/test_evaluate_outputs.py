"""What `tvqrap-cli evaluate` may replace in its folder of results."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from tests.support.commands import run
from tests.support.pairs import texture
from tvqrap.evaluation.run import RESULTS
from tvqrap.pretrained.folder import read_config
from tvqrap.pretrained.single_file import write_single_file


@pytest.fixture
def images(tmp_path: Path) -> Path:
    hr = texture(0, 64, 64)
    for name, pixels in (("gt", hr), ("lq", np.asarray(Image.fromarray(hr).reduce(4)))):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "one.png")
    return tmp_path


def evaluate(images: Path, *arguments: object) -> Result:
    sets = ["--gt", images / "gt", "--lq", images / "lq", "--metrics", "psnr_y"]
    return run("evaluate", *arguments, *sets, "-o", images / "out")


@pytest.mark.parametrize("name", RESULTS)
def test_files_with_the_names_of_results_stay(name: str, images: Path) -> None:
    mine = images / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    result = evaluate(images, "bicubic")
    assert result.exit_code == 1 and "--overwrite replaces" in result.output
    assert mine.read_text() == "mine"
    assert evaluate(images, "bicubic", "--overwrite").exit_code == 0


def test_a_folder_with_the_name_of_the_unfinished_scores_stays(images: Path) -> None:
    chapter = images / "out/unfinished/chapter.txt"
    chapter.parent.mkdir(parents=True)
    chapter.write_text("mine")
    for overwrite in ([], ["--overwrite"]):
        result = evaluate(images, "bicubic", *overwrite)
        assert result.exit_code == 1 and "holds other files" in result.output
    assert chapter.read_text() == "mine"
    chapter.rename(chapter.with_name(".request.json.1.partial"))  # as a killed write leaves it
    assert evaluate(images, "bicubic").exit_code == 0


def test_a_single_file_is_scored_as_its_folder(images: Path, model: Path) -> None:
    file = images / "mine.safetensors"
    write_single_file(model, file, torch.float32)
    result = evaluate(images, f"folder={model}", f"file={file}")
    assert result.exit_code == 0, result.output
    means = json.loads((images / "out/metrics.json").read_text())
    assert means["folder"] == means["file"]
    assert read_config(model).fingerprint in (images / "out/scores.json").read_text()


def test_results_do_not_lie_among_the_images(images: Path) -> None:
    """The next run would score the contact sheet."""
    for inside in ("lq/scores", "gt"):
        given = ["bicubic", "--lq", images / "lq", "-o", images / inside]
        given += ["--gt", images / "gt"] if inside == "gt" else []
        result = run("evaluate", *given, "--metrics", "piqe")
        assert result.exit_code == 2 and "expected one outside of it" in result.output
    assert not (images / "lq/scores").exists()
