import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support.errors import refusal
from tvqrap.runtime import state_dict
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.state_dict import read_state_dict, read_state_file

WEIGHTS = {"conv.weight": torch.arange(6.0).view(2, 3), "conv.bias": torch.ones(2).half()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def saved(path: Path, contents: Any, **options: Any) -> Path:
    torch.save(contents, path, **options)
    return path


def assert_weights(found: dict[str, Tensor]) -> None:
    assert list(found) == sorted(WEIGHTS, reverse=True)
    for name, tensor in found.items():
        assert torch.equal(tensor, WEIGHTS[name]) and tensor.dtype == WEIGHTS[name].dtype
        assert type(tensor) is Tensor and not tensor.requires_grad


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pth_file_gives_its_tensors(file: Path, legacy: bool) -> None:
    saved(file, WEIGHTS, _use_new_zipfile_serialization=not legacy)
    assert_weights(read_state_dict(file))


def test_parameters_become_plain_tensors(file: Path) -> None:
    saved(file, {name: nn.Parameter(value) for name, value in WEIGHTS.items()})
    assert_weights(read_state_dict(file))


def test_safetensors_are_told_by_content_not_by_name(file: Path) -> None:
    save_file(WEIGHTS, file)
    found = read_state_file(file)
    assert_weights({name: found.tensors[name] for name in WEIGHTS})
    assert found.entry is None


@pytest.mark.parametrize("entry", ["params_ema", "params", "state_dict"])
def test_tensors_inside_an_entry_are_found(file: Path, entry: str) -> None:
    contents = read_state_file(saved(file, {"epoch": 3, "params_ema": None, entry: WEIGHTS}))
    assert_weights(contents.tensors)
    assert contents.entry == entry and "epoch" in contents.others


def test_averaged_weights_come_before_the_raw_ones(file: Path) -> None:
    raw = {name: value + 1 for name, value in WEIGHTS.items()}
    assert_weights(read_state_dict(saved(file, {"params": raw, "params_ema": WEIGHTS})))


def test_the_prefix_of_data_parallel_is_removed_where_all_names_have_it(file: Path) -> None:
    wrapped = {f"module.{name}": value for name, value in WEIGHTS.items()}
    assert_weights(read_state_dict(saved(file, {"params": wrapped})))
    mixed = {**wrapped, "scale": torch.ones(1)}
    assert list(read_state_dict(saved(file, mixed))) == list(mixed)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ([1, 2], "holds an object of type list, expected named tensors"),
        ({}, "holds nothing, expected named tensors"),
        ({"params": {}}, "holds nothing, expected named tensors"),
        ({"a\nb": 3}, r"entry 'a\nb' is an object of type int, expected a tensor with a name"),
        ({7: torch.ones(1)}, "entry 7 is a tensor that is strided on cpu"),
        ({"a": torch.ones(2).to_sparse()}, "entry 'a' is a tensor that is sparse_coo on cpu"),
        ({"a": torch.ones(2, device="meta")}, "entry 'a' is a tensor that is strided on meta"),
    ],
)
def test_anything_but_named_dense_tensors_is_refused(
    file: Path, contents: Any, reason: str
) -> None:
    assert refusal(read_state_dict, saved(file, contents)).startswith(reason)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_is_not_run(file: Path, legacy: bool) -> None:
    trap = file.with_name("trap")

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(trap),)

    saved(file, {"a": Trap()}, _use_new_zipfile_serialization=not legacy)
    assert refusal(read_state_dict, file) == (
        "asks for the Python object posix.mkdir, expected tensors alone; nothing of it was run"
    )
    file.write_bytes(pickle.dumps({"a": Trap()}))
    assert "not readable as .pth or safetensors" in refusal(read_state_dict, file)
    assert not trap.exists()


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    assert refusal(read_state_dict, tmp_path) == "is a folder, expected a file of weights"
    assert refusal(read_state_dict, tmp_path / "none.pth") == "no such file"
    os.mkfifo(tmp_path / "fifo.pth")
    assert (
        refusal(read_state_dict, tmp_path / "fifo.pth")
        == "is no regular file, expected a file of weights"
    )


def test_more_than_the_limit_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_dict, "LARGEST", 100_000)
    saved(file, {"a": torch.zeros(1).expand(1_000_000)})
    assert refusal(read_state_dict, file) == "4,000,000 bytes of tensors, expected at most 100,000"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1_000_000))
    assert (
        refusal(read_state_dict, file) == "1,000,000 bytes when unpacked, expected at most 100,000"
    )
    file.write_bytes(bytes(200_000))
    assert refusal(read_state_dict, file) == "200,000 bytes, expected at most 100,000"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_damaged_file_is_one_line(file: Path, kind: str) -> None:
    if kind == "safetensors":
        save_file(WEIGHTS, file)
    else:
        saved(file, WEIGHTS, _use_new_zipfile_serialization=kind == "zip")
    whole, draws = file.read_bytes(), random.Random(0)
    for content in (whole[:-40], whole[: len(whole) // 2], whole[:1], b"", b"<!DOCTYPE html>"):
        file.write_bytes(content)
        assert refusal(read_state_dict, file) == (
            f"{len(content):,} bytes that are not readable as .pth or safetensors "
            "(cut short, or another kind of file)"
        )
    for _ in range(150):
        mutant = bytearray(whole)
        for _ in range(draws.randint(1, 4)):
            mutant[draws.randrange(len(mutant))] = draws.randrange(256)
        file.write_bytes(mutant)
        try:
            read_state_dict(file)
        except UserError as error:
            assert len(str(error).splitlines()) == 1
