"""Reading the authors' files: what is taken, and what is refused in which words."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.errors import refusal
from tests.support.reference import mask, position_index, published_state
from tvqrap.architecture import Architecture
from tvqrap.convert.published import read_published

CODEBOOK = "quantize.embedding.weight"
BLOCK = "generator.blocks_3.1.swin_blks.0.residual_group.blocks.1"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def stage1() -> State:
    """A stage-1 file's tensors: all there, and zero."""
    return published_state("tokenizer")


@pytest.fixture(scope="module")
def stage3() -> State:
    return published_state("upscaler")


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(contents: Any) -> Path:
        path = tmp_path / "published.pth"
        torch.save(contents, path)
        return path

    return save


def test_stage_1(saved: Callable[[Any], Path], stage1: State) -> None:
    published = read_published(saved({"params": stage1}))
    assert (published.kind, published.entry, published.upscaler) == ("tokenizer", "params", None)
    assert published.tokenizer.architecture == Architecture()
    assert published.left_out("tokenizer") == {}
    with pytest.raises(ValueError, match="has no upscaler"):
        published.network("upscaler")


def test_stages_2_and_3_leave_out_what_upscaling_does_not_need(
    saved: Callable[[Any], Path], stage3: State
) -> None:
    published = read_published(saved({"params": [], "params_ema": stage3}))
    assert (published.kind, published.entry) == ("upscaler", "params_ema")
    assert published.left_out("upscaler") == {"encoder": 235, "fuse": 22, "small_autoencoder": 116}
    assert published.left_out("tokenizer") == {"predictor": 552}


def test_codebook_size_and_precision_are_the_files(
    saved: Callable[[Any], Path], stage1: State
) -> None:
    half = {name: value.half() for name, value in stage1.items() if name != CODEBOOK}
    # Whole numbers stay whole, and entries keep their values when they are widened.
    half |= {name: value for name, value in stage1.items() if not value.is_floating_point()}
    entries = torch.linspace(-1, 1, 512 * 256).view(512, 256).bfloat16()
    tokenizer = read_published(saved({"params": {**half, CODEBOOK: entries}})).tokenizer
    assert tokenizer.architecture == Architecture(codebook=512)
    assert tokenizer.codebook.embedding.weight.dtype == torch.float32
    assert torch.equal(tokenizer.codebook.embedding.weight, entries.float())
    assert not tokenizer.training
    one = refusal(read_published, saved({"params": {**stage1, CODEBOOK: torch.zeros(1, 256)}}))
    assert one == f"{CODEBOOK}: codebook is 1; allowed are whole numbers from 2 to 65536"


def test_names_that_differ_are_listed(saved: Callable[[Any], Path], stage1: State) -> None:
    wrong = {
        f"module.{name}" if name.startswith("quantize.") else name: value
        for name, value in stage1.items()
        if not name.startswith(("lq_encoder.blocks.0.", "lq_generator.blocks.10."))
    }
    wrong["two\nlines"] = torch.zeros(1)
    assert refusal(read_published, saved({"params": wrong})) == (
        "not a published stage 1 checkpoint: "
        "missing tensors (5): quantize.embedding.weight, lq_encoder.blocks.0.weight, "
        "lq_encoder.blocks.0.bias, ...; "
        "unexpected tensors (2): module.quantize.embedding.weight, two\\x0alines"
    )


def test_shapes_types_and_values_that_do_not_fit_are_listed(
    saved: Callable[[Any], Path], stage1: State
) -> None:
    wrong = {
        "encoder.blocks.0.weight": torch.zeros(32, 3, 3, 3),
        "encoder.blocks.0.bias": torch.zeros(64, dtype=torch.int64),
        "encoder.blocks.1.norm1.weight": torch.zeros(()),
    }
    broken = {"encoder.blocks.1.norm1.bias": torch.full((64,), torch.nan)}
    assert refusal(read_published, saved({"params": {**stage1, **wrong, **broken}})) == (
        "not a published stage 1 checkpoint: tensors that do not fit (3): "
        "encoder.blocks.0.weight is float32 (32, 3, 3, 3), expected float32 (64, 3, 3, 3), "
        "encoder.blocks.0.bias is int64 (64,), expected float32 (64,), "
        "encoder.blocks.1.norm1.weight is float32 (), expected float32 (64,); "
        "tensors that are not finite (1): encoder.blocks.1.norm1.bias"
    )


def test_predictor_must_fit_the_codebook(saved: Callable[[Any], Path], stage3: State) -> None:
    message = refusal(
        read_published, saved({"params": {**stage3, CODEBOOK: torch.zeros(512, 256)}})
    )
    assert message == (
        "not a published stage 2 or 3 checkpoint: tensors that do not fit (1): "
        "idx_pred_layer_low.1.weight is float32 (1024, 256), expected float32 (512, 256)"
    )


def test_another_window_is_refused_and_another_crop_is_not(
    saved: Callable[[Any], Path], stage1: State
) -> None:
    read_published(saved({"params": {**stage1, f"{BLOCK}.attn_mask": mask(64)}}))
    table = torch.zeros(15**2, 8)
    window4 = {
        f"{BLOCK}.attn_mask": mask(64, window=4, shift=2),
        f"{BLOCK}.attn.relative_position_index": position_index(4),
        f"{BLOCK}.attn.relative_position_bias_table": table[:49],
    }
    shift2 = {f"{BLOCK}.attn_mask": mask(16, shift=2)}
    turned = {f"{BLOCK}.attn.relative_position_index": position_index().t()}
    assert "do not fit (3)" in refusal(read_published, saved({"params": {**stage1, **window4}}))
    message = refusal(read_published, saved({"params": {**stage1, **shift2, **turned}}))
    assert "do not fit (2)" in message
    assert f"{BLOCK}.attn_mask is not that of 8x8 windows shifted by 4" in message
    assert f"{BLOCK}.attn.relative_position_index is not that of an 8x8 window" in message
    # A block without a mask is one that is not shifted.
    without = {name: value for name, value in stage1.items() if name != f"{BLOCK}.attn_mask"}
    assert f"missing tensors (1): {BLOCK}.attn_mask" in refusal(
        read_published, saved({"params": without})
    )


class Runs:
    """Unpickled without care, makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_is_never_run(tmp_path: Path, saved: Callable[[Any], Path], stage1: State) -> None:
    path = saved({"params": stage1, "more": Runs(tmp_path / "trap")})
    assert refusal(read_published, path) == (
        "asks for the Python object posix.mkdir, expected tensors alone; nothing of it was run"
    )
    assert not (tmp_path / "trap").exists()
