"""params.yaml is complete and possible; a fault is named in one line."""

import re
from pathlib import Path

import pytest

from stages.params import RENAMED, load_params, parse_params, renamed
from stages.profile import expanded, profile_path
from tests.support.paths import ROOT
from tvqrap.runtime.errors import UsageError

PROFILES = sorted((ROOT / "stages/profiles").glob("*.yaml"))
TEXT = (ROOT / "params.yaml").read_text()


def test_default_profile_is_laptop() -> None:
    assert (ROOT / "stages/profiles/laptop.yaml").read_text() == TEXT


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_is_valid(path: Path) -> None:
    assert load_params(path).architecture.codebook >= 2


def test_paper_profile_is_the_papers_network() -> None:
    from tvqrap.architecture import Architecture

    assert load_params(ROOT / "stages/profiles/paper.yaml").architecture == Architecture()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("codebook: 512", "codebok: 512", ["codebok", "unknown key", "codebook"]),
        ("codebook: 512", "codebook: many", ["codebook", "'many'", "integer"]),
        ("codebook: 512", "codebook: 1", ["codebook", "1", "2 to 65536"]),
        ("texture: 4", "texture: 5", ["texture", "5", "4 and 8"]),
        ("\nstructure: 8\n", "\nstructure: 12\n", ["structure", "12", "8, 16, 32"]),
        (
            "\nstructure: 8\n",
            "\nstructure:\n",
            ["structure", "None", "8, 16, 32, 64, 128 and none"],
        ),
        ("\nstructure: 8\n", "\nstructure: off\n", ["structure", "'off'", "128 and none"]),
        (
            "\nstructure: 8\n",
            "\nstructure: 128\n",
            ["pairs.sets.train.size is 64", "pairs.sets.val.size is 64", "multiples of 128"],
        ),
        ("width: 0.25", "width: 0.4", ["width", "0.4", "0.375"]),
        ("seed: 1\n", "seed: -1\n", ["seed", "-1", "0"]),
        (
            "seed: 1\n",
            "seed: 18446744073709551616\n",
            ["seed", "4294967296"],
        ),
        ("  batch_size: 4", "  batch: 4", ["tokenizer.batch: is now tokenizer.batch_size"]),
        ("    ema_decay:", "    ema:", ["optimiser.ema: is now tokenizer.optimiser.ema_decay"]),
        (
            "  commitment_on: encoder",
            "  commitment_on: encoder\n  codebook: 1.0",
            ["tokenizer.codebook: is now tokenizer.loss_weights.codebook"],
        ),
        (
            "  phases:\n  - set: train\n    batch_size",
            "  phases:\n  - set: train\n    batch",
            ["predictor.phases.0.batch: is now predictor.phases.0.batch_size"],
        ),
        ("      size: 64", "      size: 100", ["pairs.sets.train.size", "100", "64"]),
        (
            "      crop_mode: zoom",
            "      crop_mode: zom",
            ["pairs.sets.train.crop_mode", "'zom'", "zoom"],
        ),
        ("  set: train\n  batch", "  set: trian\n  batch", ["tokenizer.set", "'trian'", "train"]),
        (
            "  phases:\n  - set: train",
            "  phases:\n  - sets: {train: 3, tria: 1}",
            ["predictor.phases.0.set", "'tria'", "val"],
        ),
        (
            "  phases:\n  - set: train",
            "  phases:\n  - sets: {train: 0}",
            ["predictor.phases.0.sets.train: found 0", "greater than 0"],
        ),
        (
            "  phases:\n  - set: train",
            "  phases:\n  - set: train\n    sets: {val: 1}",
            ["predictor.phases.0: found both"],
        ),
        ("rap:\n  set: train", "rap:\n  sets: {train: 1}", ["rap.sets: unknown key", "set"]),
        (
            "  phases:\n  - set: train",
            "  phases:\n  - sets: {}",
            ["predictor.phases.0.sets: found {}", "at least 1"],
        ),
        ("    val:\n      split: val", "    vall:\n      split: val", ["pairs.sets", "'val'"]),
        ("  precision: float32", "  precision: float16", ["compute.precision", "bfloat16"]),
        ("  workers: 1", "  workers: 0", ["compute.workers", "0", "greater than 0"]),
        (
            "  workers:\n",
            "  workers: 3\n",
            ["tokenizer.batch_size is 4", "workers 3", "multiples of 3"],
        ),
        (
            "  grad_accum_steps: 1",
            "  grad_accum_steps: 8",
            ["tokenizer.batch_size", "steps 8", "of 8"],
        ),
        ("  workers:\n", "  workers: 4\n", ["texture_dropout is 0.25", "4 parts", "4 images"]),
        ("  workers: 1", "  workers: all", ["compute.workers", "'all'"]),
        ("    - 0.5\n    - 0.9", "    - 0.5\n    - 1.9", ["tokenizer.optimiser.betas.1", "1.9"]),
        ("  mse: 2.0", '  mse: "2.0"', ["tokenizer.image.mse", "'2.0'"]),
        (
            "    vq_warmup_steps: 0",
            "    vq_warmup_steps: 1000",
            ["vq_warmup_steps is 1000", "0 to 99"],
        ),
        ("  pad_multiple: 64", "  pad_multiple: 24", ["pad_multiple is 24", "multiples of 16"]),
        ("seed: 1\n", "seed: 1\nseed: 2\n", ["seed"]),
        ("seed: 1\n", "seed: [1\n", ["line", "YAML"]),
        ("seed: 1\n", "seed: 2001-99-99\n", ["YAML", "month"]),
        ("init: tvqrap/weights\n", "", ["init", "missing"]),
        ("\n  storage:\n", "\n  storage: store\n", ["pairs.storage", "'store'", "absolute"]),
        (
            "    train:\n",
            "    curves:\n",
            ["pairs", "sets.curves", "another name"],
        ),
        (
            "      target: photo",
            "      target: both",
            ["pairs", "sets.train.target", "'both'", "models/none"],
        ),
        ("      target: photo", "      target: phot", ["pairs.sets.train.target", "'phot'"]),
        (
            "    pixels: 0.0",
            "    pixels: 0.5",
            ["pairs.sets.train.target is 'photo'", "rap.teacher", "both"],
        ),
        ("  teacher: 0.0", "  teacher: 0.5", ["target is 'photo'", "tokenizer.teacher", "both"]),
        (
            "      degradation: test",
            "      degradation: {test: 0.5}",
            ["pairs.sets.train", "degradation", "test 0.5", "sum of 1"],
        ),
        (
            "      degradation: test",
            "      degradation: 5",
            ["pairs.sets.train.degradation: found 5"],
        ),
        (
            "      degradation: test",
            "      degradation: {test: much}",
            ["pairs.sets.train.degradation.test: found 'much'"],
        ),
        ("          - 0.2\n          - 3.0", "          - 0.00001\n          - 3.0", ["1e-05"]),
    ],
)
def test_a_wrong_value_is_one_line_with_key_value_and_what_is_allowed(
    old: str, new: str, words: list[str]
) -> None:
    assert old in TEXT, f"the test's own text is outdated: {old!r}"
    with pytest.raises(UsageError) as caught:
        parse_params(TEXT.replace(old, new, 1), "params.yaml")
    message = str(caught.value)
    assert message.startswith("params.yaml: ")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_stage_has_no_more_workers_than_the_device_serves() -> None:
    text = TEXT.replace("  device: cpu", "  device: mps", 1)
    text = text.replace("workers:\n", "workers: 2\n", 1)
    with pytest.raises(UsageError, match=r"tokenizer\.workers: .*'mps' with 2 workers, expected"):
        parse_params(text, "params.yaml")


def test_a_mixture_of_sets_has_weights_and_one_size() -> None:
    mixed = TEXT.replace("  phases:\n  - set: train", "  phases:\n  - sets: {train: 3, val: 1}")
    params = parse_params(mixed, "params.yaml")
    assert params.predictor.phases[0].weights == {"train": 3, "val": 1}
    other = mixed.replace("      size: 64", "      size: 128", 1)
    with pytest.raises(UsageError, match="train has 128, val has 64 as size") as caught:
        parse_params(other, "params.yaml")
    assert str(caught.value).startswith("params.yaml: predictor.phases.0.sets:")


def test_every_renamed_key_has_a_present_one() -> None:
    keys = set(re.findall(r"^ *-? *(\w+):", TEXT, re.MULTILINE))
    assert set(RENAMED.values()) <= keys and not set(RENAMED) & keys
    assert renamed("rap.structure") == "rap.loss_weights.structure"
    assert renamed("structure") is None and renamed("rap.loss_weights.structure") is None


def test_a_codebook_that_kmeans_could_not_fill_is_refused() -> None:
    text = expanded(profile_path("small", ROOT))
    with pytest.raises(UsageError, match="codebook is 65536; allowed are at most 32768") as caught:
        parse_params(text.replace("codebook: 512", "codebook: 65536", 1), "small.yaml")
    assert "k-means" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "just words", "seed: 1\n"])
def test_something_else_than_params_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^elsewhere\.yaml: .+"):
        parse_params(text, "elsewhere.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        load_params(tmp_path / "nowhere.yaml")
