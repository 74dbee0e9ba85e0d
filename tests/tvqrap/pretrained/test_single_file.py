"""An upscaler as one safetensors file."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.support.networks import random_upscaler
from tvqrap.architecture import Architecture
from tvqrap.convert.onnx import export_onnx
from tvqrap.pretrained.folder import read_state, save_model
from tvqrap.pretrained.single_file import CONFIG_TENSOR, read_single_config, write_single_file
from tvqrap.runtime.errors import UserError


@pytest.mark.parametrize("ending", ["safetensors", "onnx"])
def test_a_weight_beyond_float16_is_named(ending: str, tmp_path: Path) -> None:
    architecture = Architecture(0.0625, 8, 4, 8)
    network = random_upscaler(architecture)
    with torch.no_grad():
        network.codebook.embedding.weight[0, 0] = 1e6
    save_model(tmp_path / "rap", "upscaler", network, architecture, {})
    file = tmp_path / f"x.{ending}"
    with pytest.raises(UserError, match=r"codebook\.embedding\.weight has values beyond float16"):
        if ending == "onnx":
            export_onnx(tmp_path / "rap", file, dtype="float16")
        else:
            write_single_file(tmp_path / "rap", file, torch.float16)
    assert not file.exists()


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    """safetensors alone writes the metadata in another order each time."""
    architecture = Architecture(0.0625, 8, 4, 8)
    config = save_model(
        tmp_path / "rap", "upscaler", random_upscaler(architecture), architecture, {"name": 'é "\n'}
    )
    contents = set()
    for number in range(8):
        file = tmp_path / f"{number}.safetensors"
        write_single_file(tmp_path / "rap", file, torch.float32)
        contents.add(file.read_bytes())
    assert len(contents) == 1
    assert read_single_config(file) == config
    state = read_state(tmp_path / "rap")
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata()["modelspec.architecture"] == "tvqrap"
        assert {*opened.keys()} == {*state, CONFIG_TENSOR}
        assert all(torch.equal(opened.get_tensor(name), state[name]) for name in state)
