"""params.yaml: what is in it is complete and possible, and what is wrong is named in one line."""

from pathlib import Path

import pytest

from stages.params import load_params, parse_params
from tvqrap.errors import UsageError

ROOT = Path(__file__).parents[2]
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
        ("structure: 16", "structure: 12", ["structure", "12", "8, 16, 32"]),
        ("structure: 16", "structure:", ["structure", "None", "8, 16, 32, 64, 128 and none"]),
        ("structure: 16", "structure: off", ["structure", "'off'", "128 and none"]),
        (
            "structure: 16",
            "structure: 128",
            ["pairs.sets.train.size is 64", "pairs.sets.val.size is 64", "multiples of 128"],
        ),
        (
            "texture: 4",
            "texture: 8",
            ["train.size is 64", "texture 8", "multiples of 128 (LR of 32)"],
        ),
        ("width: 0.25", "width: 0.4", ["width", "0.4", "0.375"]),
        ("seed: 1\n", "seed: -1\n", ["seed", "-1", "0"]),
        ("      size: 64", "      size: 100", ["pairs.sets.train.size", "100", "64"]),
        ("      rule: zoom", "      rule: zom", ["pairs.sets.train.rule", "'zom'", "zoom"]),
        ("  set: train\n  batch", "  set: trian\n  batch", ["tokenizer.set", "'trian'", "train"]),
        ("    val:\n      split: val", "    vall:\n      split: val", ["pairs.sets", "'val'"]),
        ("  precision: float32", "  precision: float16", ["compute.precision", "bfloat16"]),
        ("    - 0.5\n    - 0.9", "    - 0.5\n    - 1.9", ["tokenizer.optimiser.betas.1", "1.9"]),
        ("  mse: 2.0", '  mse: "2.0"', ["tokenizer.image.mse", "'2.0'"]),
        ("    unquantized: 200", "    unquantized: 1000", ["unquantized is 1000", "0 to 999"]),
        ("codebook: 512", "codebook: 65536", ["codebook is 65536", "at most 16384", "k-means"]),
        ("  pad_multiple: 64", "  pad_multiple: 24", ["pad_multiple is 24", "multiples of 16"]),
        ("seed: 1\n", "seed: 1\nseed: 2\n", ["seed"]),
        ("seed: 1\n", "seed: [1\n", ["line", "YAML"]),
        ("init: models/none\n", "", ["init", "missing"]),
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


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "just words", "seed: 1\n"])
def test_something_else_than_params_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^elsewhere\.yaml: .+"):
        parse_params(text, "elsewhere.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        load_params(tmp_path / "nowhere.yaml")
