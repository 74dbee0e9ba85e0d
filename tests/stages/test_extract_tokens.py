"""The stage: what it publishes, with its sets in the checkout or elsewhere."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.inspection.verify import verify_shards
from pipeline.shards.manifest import Manifest
from pipeline.storage.location import Url, file_sizes
from stages import extract_tokens
from stages.params import Params
from stages.runner.stage import Stage
from tests.support.tokens import SETTINGS, make_material, with_changes
from tvqrap.runtime.errors import UserError


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(folder of a set of pairs, folder of a tokenizer)."""
    return make_material(tmp_path_factory.mktemp("stage"))


@pytest.fixture
def stage(material: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The stage in a checkout of two sets of pairs, its work done in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TVQRAP_EXECUTOR", "serial")
    shutil.copytree(material[0], "data/pairs/train")
    without = with_changes(
        material[0],
        Path("data/pairs/test"),
        lambda number, sample: replace(sample, members={"json": b"{}"}) if number == 1 else sample,
    )
    replace(Manifest.load(without), set="test").save(without)
    shutil.copytree(material[1], "models/tokenizer")
    return Stage("extract_tokens", params(None), "fingerprint", tmp_path / ".scratch/stage-01")


def params(storage: str | None) -> Params:
    tokens = SETTINGS.model_copy(update={"storage": storage})
    return cast(Params, SimpleNamespace(tokens=tokens))


def test_sets_and_tables_are_published(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    extract_tokens.extract_tokens(stage)
    assert sorted(path.name for path in Path("data/tokens").iterdir()) == ["test", "train"]
    for name in ("train", "test"):
        folder = Path("data/tokens") / name
        assert verify_shards(folder, hashes=True) == []
        assert Manifest.load(folder).location is None
        lines = Path(f"curves/tokens/codes/{name}.tsv").read_text().splitlines()
        assert lines[0] == "rank\tcode\tcount\tpercent" and len(lines) == 1 + 16
        assert len(Path(f"curves/tokens/drift/{name}.tsv").read_text().splitlines()) == 4
    assert "test: 1 samples dropped, kept in" in capsys.readouterr().out
    assert len(list(Path(".scratch/quarantine/stage-01/test").glob("*.error.json"))) == 1


def test_stored_elsewhere_the_checkout_holds_manifests(stage: Stage, memory: Url) -> None:
    extract_tokens.extract_tokens(stage)
    roots = {name: Manifest.load(Path("data/tokens") / name).root for name in ("train", "test")}
    stage.scratch.mkdir()  # as a new run does
    extract_tokens.extract_tokens(replace(stage, params=params(str(memory))))
    for name, root in roots.items():
        folder = Path("data/tokens") / name
        beside = ["README.md", "index.parquet", "manifest.json"]
        assert sorted(path.name for path in folder.iterdir()) == beside
        assert Manifest.load(folder).root == root
        assert Manifest.load(folder).home(folder) == memory / f"stage-01/{name}"
        assert verify_shards(folder, hashes=True) == []
    assert len(file_sizes(memory / "stage-01/quarantine/test")) == 2
    (memory / "stage-01/train/000000.tar").remove()
    assert verify_shards(Path("data/tokens/train"), hashes=False) == [
        f"{memory}/stage-01/train/000000.tar: missing"
    ]


def test_a_storage_that_nothing_reaches_is_one_line(stage: Stage) -> None:
    with pytest.raises(UserError, match=r"^nope://a: cannot be used"):
        extract_tokens.extract_tokens(replace(stage, params=params("nope://a")))
    assert not Path("data/tokens").exists()


def test_sets_of_one_shard_have_an_empty_folder_of_drift(stage: Stage) -> None:
    """dvc.yaml declares it as an output."""
    shutil.rmtree("data/pairs/train")
    Path("one").mkdir()
    made = make_material(Path("one"), shard_size=100)[0]
    shutil.rmtree("data/pairs/test")
    shutil.copytree(made, "data/pairs/train")
    extract_tokens.extract_tokens(stage)
    assert list(Path("curves/tokens/drift").iterdir()) == []
    assert [path.name for path in Path("curves/tokens/codes").iterdir()] == ["train.tsv"]


def test_shards_of_other_runs_are_taken_over_without_those_that_dropped_samples(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    extract_tokens.extract_tokens(stage)
    before = {path: path.read_bytes() for path in Path("data/tokens").rglob("*.tar")}
    pair = Path("data/pairs/train")
    row = Manifest.load(pair).shards[-1]
    replace(Manifest.load(pair), shards=Manifest.load(pair).shards[:-1]).save(pair)
    shutil.rmtree("data/tokens")
    capsys.readouterr()
    other = stage.scratch.with_name("extract_tokens-02")
    other.mkdir()
    extract_tokens.extract_tokens(replace(stage, scratch=other))
    printed = capsys.readouterr().out
    assert "train: 6 samples in 2 shards, 2 of them made by earlier runs" in printed
    assert "test: 6 samples in 3 shards, 2 of them made by earlier runs" in printed
    assert len(list(Path(".scratch/quarantine/extract_tokens-02/test").glob("*.error.json"))) == 1
    del before[Path("data/tokens/train") / row.name]
    assert {path: path.read_bytes() for path in Path("data/tokens").rglob("*.tar")} == before
