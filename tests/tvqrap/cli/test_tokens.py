"""`tvqrap-cli tokens` on a set extracted for the test."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import stages.params
from pipeline.config import TokensSettings
from pipeline.shards.codec import decode_array, encode_array
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from pipeline.tokens.extract import extract_set
from tests.support.tokens import SETTINGS, SMALL, make_material, with_changes
from tvqrap.cli.tokens import app
from tvqrap.runtime.errors import UsageError, UserError
from tvqrap.runtime.hardware import Machine


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs/train (7 samples of 64 in 3 shards), tokens/train and tokenizer."""
    root = tmp_path_factory.mktemp("checkout")
    pairs, tokenizer = make_material(root)
    extract_set(pairs, tokenizer, root / "work", SETTINGS, executor="serial", workers=1)
    shutil.move(root / "work/train", root / "tokens/train")
    return root


@pytest.fixture
def changed(root: Path, tmp_path: Path) -> Path:
    """A sound copy of the tokens in which one code of sample 4 is another."""

    def change(number: int, sample: Sample) -> Sample:
        if number != 4:
            return sample
        codes = decode_array(sample.members["codes.npy"]).copy()
        codes[0, 0] = (codes[0, 0] + 1) % SMALL.codebook
        return Sample(sample.key, sample.members | {"codes.npy": encode_array(codes)})

    return with_changes(root / "tokens/train", tmp_path / "other/train", change)


def call(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def refused(*arguments: object) -> UserError:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, UserError), result.output
    return result.exception


def made_from(root: Path) -> list[object]:
    return ["--pairs", root / "pairs", "--tokenizer", root / "tokenizer"]


def keys(folder: Path) -> list[str]:
    return [each.key for path in sorted(folder.glob("*.tar")) for each in read_shard(path)]


def test_inspect_serves_tokens_and_pairs(root: Path) -> None:
    text = call("inspect", root / "tokens")
    assert "tokens, set train" in text
    assert "7 in 3 shards" in text
    manifest = Manifest.load(root / "tokens/train")
    assert manifest.extra["tokenizer"] in text
    (found,) = json.loads(call("inspect", root / "tokens", "--json"))
    assert found["root"] == manifest.root
    assert found["samples"] == 7
    assert json.loads(call("inspect", root / "pairs", "--json"))[0]["kind"] == "pairs"


def test_verify_at_three_depths(root: Path, changed: Path, tmp_path: Path) -> None:
    for level in ("--quick", "--full"):
        assert "sound" in call("verify", root / "tokens", level)
        assert "sound" in call("verify", root / "pairs", level)
        assert "sound" in call("verify", changed, level)
    deep = ("--deep", "--samples", 5, "--seed", 3, *made_from(root))
    said = call("verify", root / "tokens", *deep)
    assert said == f"{root}/tokens/train: sound; 5 of 7 samples encoded again, seed 3\n"
    assert "sound; pairs have no tokens to encode again" in call("verify", root / "pairs", "--deep")
    found = json.loads(call("verify", root / "tokens", *deep, "--json"))
    about = {"encoded_anew": 5, "samples": 7, "seed": 3}
    assert found["checked"] == {f"{root}/tokens/train": about}
    found = json.loads(call("verify", changed, "--deep", *made_from(root), "--json", code=1))
    assert not found["sound"]
    (problem,) = found["problems"][str(changed)]
    assert f"{keys(changed)[4]}: 1 of 256 codes differ" in problem

    damaged = shutil.copytree(root / "tokens", tmp_path / "damaged")
    shard = damaged / "train/000001.tar"
    content = bytearray(shard.read_bytes())
    content[600] ^= 1
    shard.write_bytes(content)
    assert "sound" in call("verify", damaged, "--quick")
    assert "000001.tar" in call("verify", damaged, "--full", code=1)
    assert "000001.tar" in call("verify", damaged, "--deep", *made_from(root), code=1)
    assert isinstance(refused("verify", damaged, "--full", "--deep"), UsageError)


def test_verify_deep_on_another_machine_calls_no_set_broken(
    root: Path, changed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Machine.here("cpu")
    assert Manifest.load(changed).extra["machine"] == {"device": here.device, "torch": here.torch}
    monkeypatch.setattr(Machine, "here", lambda device: Machine("another CPU", "9.9"))
    deep = ("verify", changed, "--deep", *made_from(root))
    assert (
        f"{changed}: sound; 7 of 7 samples encoded again, seed 0, 1 of them differ (1 codes), no "
        f"proof of a fault: made on {here}, here is another CPU with torch 9.9"
    ) in call(*deep)
    (about,) = json.loads(call(*deep, "--json"))["checked"].values()
    assert about["differing"] == 1


def test_verify_compares_sources_with_the_pairs_at_hand(root: Path, tmp_path: Path) -> None:
    other = with_changes(
        root / "pairs/train",
        tmp_path / "pairs/train",
        lambda number, sample: sample if number != 4 else None,
    )
    text = call("verify", root / "tokens", "--pairs", tmp_path / "pairs", code=1)
    made_from, there = (
        Manifest.load(folder).shards[1].sha256[:12] for folder in (root / "pairs/train", other)
    )
    assert text.count("made from a pair shard") == 1
    assert f"000001.tar: made from a pair shard {made_from}, but {other} has {there}" in text
    assert "sound" in call("verify", root / "tokens", "--pairs", root / "pairs")


def test_verify_deep_draws_samples_and_sees_another_structure(root: Path, tmp_path: Path) -> None:
    def shifted(number: int, sample: Sample) -> Sample:
        structure = decode_array(sample.members["structure.npy"]) + np.float16(0.5)
        return Sample(sample.key, sample.members | {"structure.npy": encode_array(structure)})

    other = with_changes(root / "tokens/train", tmp_path / "train", shifted)
    found = json.loads(
        call("verify", other, "--deep", "--samples", 2, *made_from(root), "--json", code=1)
    )
    problems = found["problems"][str(other)]
    assert len(problems) == 2
    assert "values of the structure differ" in problems[0]


def test_stats_count_codes_and_measure_margins(root: Path, tmp_path: Path) -> None:
    arguments = ("stats", root / "tokens", "--margins", 3, *made_from(root))
    (found,) = json.loads(call(*arguments, "--json"))
    counts = np.zeros(SMALL.codebook, dtype=int)
    for path in (root / "tokens/train").glob("*.tar"):
        for sample in read_shard(path):
            codes = decode_array(sample.members["codes.npy"])
            counts += np.bincount(codes.ravel(), minlength=SMALL.codebook)
    assert found["histogram"] == counts.tolist()
    assert found["dead"] == np.flatnonzero(counts == 0).tolist()
    manifest = Manifest.load(root / "tokens/train")
    assert found["perplexity"] == manifest.extra["code_perplexity"]
    assert [row["shard"] for row in found["drift"]] == [row.name for row in manifest.shards]
    assert all(0 <= row["divergence"] <= 1 for row in found["drift"])
    margins = found["margins"]
    assert margins["samples"] == 3
    assert margins["vectors"] == 3 * 256
    assert 0 <= margins["p1"] <= margins["p10"] <= margins["median"] <= margins["p90"] <= 1

    text = call(*arguments, "-o", tmp_path)
    assert "perplexity" in text and "margins  median" in text
    lines = (tmp_path / "codes/train.tsv").read_text().splitlines()
    assert lines[0] == "rank\tcode\tcount\tpercent" and len(lines) == 1 + SMALL.codebook
    assert lines[1].split("\t")[2] == str(counts.max())
    assert len((tmp_path / "drift/train.tsv").read_text().splitlines()) == 4
    assert (tmp_path / "margins/train.tsv").read_text().startswith("percent\tmargin\n0\t")
    table = np.loadtxt(tmp_path / "margins/train.tsv", skiprows=1)
    assert table[:, 0].tolist() == list(range(101))
    np.testing.assert_allclose(table[:, 1], margins["quantiles"], rtol=1e-4)
    assert (np.diff(table[:, 1]) >= 0).all() and margins["quantiles"][50] == margins["median"]


def test_stats_refuse_a_shard_that_is_not_its_manifests(
    root: Path, changed: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "tokens/train", tmp_path / "mixed/train")
    shutil.copy(changed / "000001.tar", tmp_path / "mixed/train")
    error = refused("stats", tmp_path / "mixed", "--margins", 0)
    assert "000001.tar: found SHA-256" in str(error)


def test_stats_say_why_there_are_no_margins(root: Path, tmp_path: Path) -> None:
    text = call("stats", root / "tokens", "--pairs", root / "pairs", "--tokenizer", tmp_path)
    assert f"margins  none: {tmp_path}: no model there" in text
    assert "expected tokens" in str(refused("stats", root / "pairs"))


def test_diff_names_samples_whose_codes_differ(
    root: Path, changed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = root / "tokens"
    same = json.loads(call("diff", tokens, tokens, "--json"))
    assert [entry["equal"] for entry in same] == [True]
    assert call("diff", tokens, tokens, "--exit-code") == "train: equal, 7 samples\n"
    monkeypatch.chdir(root)
    assert call("diff", "./tokens/train", f"{tokens}/train/") == "train: equal, 7 samples\n"
    text = call("diff", tokens, changed.parent)
    assert call("diff", tokens, changed.parent, "--exit-code", code=1) == text
    assert "train: 7 samples in both, 1 with other codes" in text
    assert f"{keys(changed)[4]}: 1 of 256 codes differ" in text
    (found,) = json.loads(call("diff", tokens / "train", changed, "--json"))
    assert (found["equal"], found["codes_differing"], found["codes"]) == (False, 1, 7 * 256)

    fewer = with_changes(
        tokens / "train", tmp_path / "train", lambda number, sample: sample if number else None
    )
    (found,) = json.loads(call("diff", tokens / "train", fewer, "--json"))
    assert found["only_first"] == keys(tokens / "train")[:1]
    assert found["common"] == 6 and not found["differing"]
    (tmp_path / "more").mkdir()
    shutil.copytree(fewer, tmp_path / "more/val")
    assert "expected the same" in str(refused("diff", tokens, tmp_path / "more"))


def test_preview_draws_a_row_per_key(root: Path, tmp_path: Path) -> None:
    tokens = root / "tokens/train"
    chosen = [keys(tokens)[5], keys(tokens)[0]]
    sheet = tmp_path / "sheet.png"
    call("preview", *chosen, "--tokens", tokens, "-o", sheet, *made_from(root))
    image = Image.open(sheet)
    assert image.width == 8 + 4 * (64 + 8)
    assert image.height >= 2 * 64
    again = refused("preview", *chosen, "--tokens", tokens, "-o", sheet, *made_from(root))
    assert "--overwrite replaces it" in str(again)
    sheet.unlink()
    wrong = refused("preview", "nobody", "--tokens", tokens, "-o", sheet, *made_from(root))
    assert "found no sample nobody" in str(wrong)


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        architecture = SMALL
        tokens = TokensSettings(device="cpu", batch_size=2, threads=1, gpus=1.0, storage=None)

    monkeypatch.setattr(stages.params, "load_params", lambda path: Fake)


def test_plan_of_pairs_foretells_the_bytes(root: Path, params: None) -> None:
    def planned(source: Path, *more: object) -> list[dict[str, Any]]:
        return json.loads(call("plan", source, *more, "--json"))["plans"]

    (found,) = planned(root / "pairs", "--rate", 2, "--workers", 4)
    assert found["samples"] == 7
    assert found["workers"] == 3, "there are three shards"
    assert found["hours"] == pytest.approx(7 / 2 / 3 / 3600)
    made = [
        (suffix in ("codes.npy", "structure.npy"), 512 + -(-len(data) // 512) * 512)
        for path in (root / "tokens/train").glob("*.tar")
        for sample in read_shard(path)
        for suffix, data in sample.members.items()
    ]
    assert found["token_bytes"] == sum(size for token, size in made if token)
    # What LR images take is measured on the first shard.
    carried = sum(size for token, size in made if not token)
    assert found["carried_bytes"] == pytest.approx(carried, rel=0.1)
    two = planned(root / "pairs/train/manifest.json", "--rate", 2, "--workers", 1, "--workers", 2)
    assert [plan["workers"] for plan in two] == [1, 2]

    (photos,) = planned(root / "photos", "--rate", 1, "--size", 64, "--crops", 3)
    assert photos["samples"] == 24
    assert photos["carried_bytes"] is None
    said = call("plan", root / "photos", "--rate", 1, "--size", 64)
    assert "photographs that are too small (data.min_side) or damaged are counted too" in said
    for option in ("--size", "--crops"):
        wrong = refused("plan", root / "pairs", "--rate", 1, option, 64)
        assert isinstance(wrong, UsageError) and "are for photographs" in str(wrong)
    wrong = refused("plan", root / "photos", "--rate", 1, "--size", 72)
    assert "HR crops of 72: expected a multiple of 64" in str(wrong)
    assert "expected --size" in str(refused("plan", root / "photos", "--rate", 1))
    assert "measured here" in call("plan", root / "pairs", "--seconds", 0)
    assert "expected pairs" in str(refused("plan", root / "tokens", "--rate", 1))


def test_plan_of_several_sets_has_a_sum(root: Path, params: None, tmp_path: Path) -> None:
    for name in ("train", "test"):
        shutil.copytree(root / "pairs/train", tmp_path / name)
        manifest = Manifest.load(tmp_path / name)
        replace(manifest, set=name).save(tmp_path / name)
    text = call("plan", tmp_path, "--rate", 7 / 3600, "--workers", 1, "--workers", 9).splitlines()
    assert [line.split(":")[0] for line in text] == ["test"] * 2 + ["train"] * 2 + ["together"] * 2
    assert "; 1 h on 1 worker at" in text[0] and "; 20 min on 3 workers at" in text[1]
    assert text[4].startswith("together: 14 samples, ")
    assert text[4].endswith("; 2 h on up to 1 worker, one set after the other")
    assert text[5].endswith("; 40 min on up to 9 workers, one set after the other")
    assert "; 7 s on 1 worker" in call("plan", root / "pairs", "--rate", 1)
