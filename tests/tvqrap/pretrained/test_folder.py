"""Model folders: reading back, and refusal of other files."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.commands import run
from tvqrap.architecture import Architecture
from tvqrap.convert.precision import convert_model
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import (
    CONFIG,
    README,
    WEIGHTS,
    fingerprint,
    load_tokenizer,
    read_config,
    read_readme,
    read_state,
    save_model,
)
from tvqrap.pretrained.upscaler import load_upscaler
from tvqrap.runtime.errors import UserError

TINY = Architecture(width=0.0625, codebook=16, texture=4, structure=8, swin_blocks=2)


@pytest.fixture
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TINY).eval()


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_model(tmp_path / "model", "tokenizer", tokenizer, TINY, {"steps": 3})
    return tmp_path / "model"


def test_saved_model_is_read_back_exactly(folder: Path, tokenizer: Tokenizer) -> None:
    loaded = load_tokenizer(folder)
    assert fingerprint(loaded) == fingerprint(tokenizer) == read_config(folder).fingerprint
    assert all(
        torch.equal(value, tokenizer.state_dict()[name])
        for name, value in loaded.state_dict().items()
    )


def test_an_upscaler_keeps_how_it_assigns_codes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UpscalerNetwork(TINY, "soft").eval()
    torch.nn.init.normal_(network.predictor.code_head.score.weight)
    save_model(tmp_path / "soft", "upscaler", network, TINY, {}, "soft")
    save_model(tmp_path / "hard", "upscaler", network, TINY, {})
    convert_model(tmp_path / "soft", tmp_path / "half", "float16")
    made = {}
    lr = torch.rand(1, 3, 64, 64) * 2 - 1
    for name in ("soft", "hard", "half"):
        with torch.no_grad():
            made[name] = load_upscaler(tmp_path / name)(lr)
    with torch.no_grad():
        assert torch.equal(made["soft"], network(lr))
    assert (made["half"] - made["soft"]).abs().max() < 0.01
    assert (made["hard"] - made["soft"]).abs().max() > 0.01


def test_an_upscaler_of_the_first_schema_is_hard(tmp_path: Path) -> None:
    save_model(tmp_path, "upscaler", UpscalerNetwork(TINY), TINY, {})
    document = json.loads((tmp_path / CONFIG).read_text())
    assert document.pop("assignment") == "hard"
    (tmp_path / CONFIG).write_text(json.dumps({**document, "schema": 1}))
    assert load_upscaler(tmp_path).assignment == "hard"
    (tmp_path / CONFIG).write_text(json.dumps({**document, "assignment": "firm"}))
    with pytest.raises(UserError, match=r"assignment is 'firm', expected 'hard' or 'soft'"):
        load_upscaler(tmp_path)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 3}, "schema is 3, expected 1 or 2"),
        ({"kind": "teacher"}, "kind is 'teacher', expected 'tokenizer' or 'upscaler'"),
        ({"kind": "upscaler"}, "assignment is None, expected 'hard' or 'soft' for an upscaler"),
        ({"assignment": "hard"}, "assignment is 'hard', expected none for a tokenizer"),
        ({"architecture": ["width", "codebook", "texture", "structure"]}, "architecture is ["),
        ({"architecture": {"width": 1}}, "architecture: an architecture has the keys"),
        ({"fingerprint": 5}, "fingerprint is 5, expected a valid string"),
        ({"fingerprint": "../x"}, "fingerprint is '../x', expected"),
        ({"about": []}, "about is [], expected"),
        ({"about": {"lr": float("nan")}}, "not readable as JSON"),
        ({"extra\n": 1}, "extra\\n is not known"),
    ],
)
def test_a_wrong_key_of_the_config_is_named(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UserError) as caught:
        read_config(folder)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '"model"', nested(100_000), '{"schema": ' + nested(5000) + "}"]
)
def test_a_file_that_is_no_config_is_one_line(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / CONFIG}: ")
    assert len(message.splitlines()) == 1 and len(message) < 300


def test_float16_is_half_as_large_and_nearly_the_same(
    folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (folder / "README.md").write_text("Größe")
    config = convert_model(folder, tmp_path / "half", "float16")
    assert (tmp_path / "half" / "README.md").read_text() == "Größe"
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < 0.6 * (folder / WEIGHTS).stat().st_size
    loaded = load_tokenizer(tmp_path / "half")
    assert fingerprint(loaded) == config.fingerprint
    assert config.about == {"steps": 3, "converted_from": read_config(folder).fingerprint}
    hr = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert (loaded(hr, False).image - tokenizer(hr, False).image).abs().max() < 0.01


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / CONFIG).unlink()
    os.mkfifo(folder / CONFIG)
    with pytest.raises(UserError, match="not a regular file"):
        read_config(folder)
    for name, read in ((WEIGHTS, read_state), (README, read_readme)):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(UserError, match="not a regular file"):
            read(folder)


def test_a_readme_is_a_file_of_the_folder(folder: Path, tmp_path: Path) -> None:
    """It is copied and published. The hub's cache has links into its own folder blobs."""
    (tmp_path / "secret").write_text("key")
    (folder / README).symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=r"README\.md: is a link out of the folder"):
        read_readme(folder)
    (tmp_path / "hub/blobs").mkdir(parents=True)
    (tmp_path / "hub/blobs/12ab").write_text("card")
    snapshot = tmp_path / "hub/snapshots/1"
    snapshot.mkdir(parents=True)
    (snapshot / README).symlink_to("../../blobs/12ab")
    assert read_readme(snapshot) == "card"


def test_weights_of_a_format_that_cannot_be_converted(folder: Path) -> None:
    """float4 is a format of safetensors that torch cannot make float32 of."""
    header = json.dumps({"x": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}).encode()
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(UserError, match=r"weights do not fit|not readable as safetensors"):
        load_tokenizer(folder)


def test_a_file_in_place_of_a_folder(folder: Path) -> None:
    with pytest.raises(UserError, match="is a file, expected a model folder"):
        read_config(folder / WEIGHTS)


@pytest.mark.parametrize("half", [False, True])
def test_changed_weight_is_refused(folder: Path, tmp_path: Path, half: bool) -> None:
    if half:
        convert_model(folder, tmp_path / "half", "float16")
        folder = tmp_path / "half"
    state = load_file(folder / WEIGHTS)
    state["codebook.embedding.weight"][0, 0] += 0.5
    save_file(state, folder / WEIGHTS)
    with pytest.raises(UserError, match="the fingerprint of the weights differs"):
        load_tokenizer(folder)


def test_weight_beyond_float16_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with torch.no_grad():
        tokenizer.codebook.embedding.weight[0, 0] = 1e6
    save_model(tmp_path / "model", "tokenizer", tokenizer, TINY, {})
    with pytest.raises(UserError, match=r"codebook\.embedding\.weight has values beyond float16"):
        convert_model(tmp_path / "model", tmp_path / "half", "float16")
    assert not (tmp_path / "half").exists()


def test_convert_command(folder: Path, tmp_path: Path) -> None:
    arguments = ["convert", folder, "-o", tmp_path / "half", "--dtype", "float16"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "half" / CONFIG).read_text())["kind"] == "tokenizer"
    again = run(*arguments)
    assert again.exit_code == 1
    assert "--overwrite" in again.output
    onto_itself = run(*arguments[:3], folder, *arguments[4:], "--overwrite")
    assert onto_itself.exit_code == 1
    load_tokenizer(folder)
