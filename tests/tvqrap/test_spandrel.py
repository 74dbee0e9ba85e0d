"""Our upscalers in programs that load networks by spandrel."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.support.commands import run
from tests.support.documents import pages
from tests.support.upscaling import TINY, picture
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model
from tvqrap.pretrained.single_file import CONFIG_TENSOR
from tvqrap.upscaling.upscaler import Upscaler

spandrel = pytest.importorskip("spandrel")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models")
    save_model(path, "upscaler", UpscalerNetwork(TINY), TINY, {}, "soft")
    return path


@pytest.fixture(scope="module", params=["float32", "float16"])
def file(request: pytest.FixtureRequest, model: Path, tmp_path_factory: object) -> Path:
    path = model / f"{request.param}.safetensors"
    words = ("export", "--format", "safetensors", "-o", path, "--model", model)
    result = run(*words, "--dtype", request.param)
    assert result.exit_code == 0, result.output
    return path


def test_spandrel_loads_a_single_file(file: Path) -> None:
    import tvqrap.spandrel

    for _ in range(2):
        tvqrap.spandrel.install()
    found = spandrel.ModelLoader("cpu").load_from_file(file)
    assert isinstance(found, spandrel.ImageModelDescriptor)
    assert (found.architecture.id, found.scale, found.purpose) == ("TVQRAP", 4, "SR")
    upscaler = Upscaler.from_pretrained(file, "cpu")
    for size in ((1, 1), (40, 30), (300, 260)):
        lr = torch.from_numpy(np.asarray(picture(*size)).copy()).permute(2, 0, 1)[None] / 255
        sr = found(lr)
        assert sr.shape == (1, 3, 4 * size[1], 4 * size[0])
        assert torch.equal(sr, upscaler(lr * 2 - 1) / 2 + 0.5)


def test_the_programs_of_the_page(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(file, tmp_path / "tvqrap.safetensors")
    monkeypatch.chdir(tmp_path)
    (page,) = (page for page in pages() if page.name == "docs/integrations.md")
    loading, node = (code for _, code in page.fences)
    names: dict[str, Any] = {}
    exec(loading, names)
    assert names["model"].scale == 4
    exec(node, names)
    assert names["NODE_CLASS_MAPPINGS"] == {}


def test_the_command_takes_a_single_file(file: Path, model: Path) -> None:
    lr = np.asarray(picture(40, 30))
    made = Upscaler.from_pretrained(file, "cpu")(lr)
    expected = Upscaler.from_pretrained(model, "cpu")(lr)
    if file.stem == "float32":
        assert np.array_equal(made, expected)
        assert Upscaler.from_pretrained(file).fingerprint == (
            Upscaler.from_pretrained(model).fingerprint
        )
    assert np.median(np.abs(made.astype(int) - expected)) <= 1


def test_the_metadata_follow_the_convention(file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        assert metadata["modelspec.architecture"] == "tvqrap"
        assert bytes(opened.get_tensor(CONFIG_TENSOR).tolist()).decode() == metadata[CONFIG_TENSOR]
