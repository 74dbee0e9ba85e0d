"""Results of finished runs: their keys, their files, and what is counted from params."""

from dataclasses import replace
from pathlib import Path

import pytest

from stages.experiments.recipe import load_recipe, runs_of
from stages.experiments.results import (
    SCORES,
    Keys,
    load_result,
    store_result,
)
from stages.experiments.seed_means import mean_over_seeds
from stages.experiments.sizes import latent_of, parameters_of
from tests.support.experiments import keep, small
from tvqrap.architecture import Architecture
from tvqrap.runtime.errors import UserError


def test_other_photographs_come_with_no_table_of_licences(checkout: Path) -> None:
    _, recipe = load_recipe("table5")
    (checkout / "mine").mkdir()
    run, *_ = runs_of(recipe, "table5", photos=Path("mine"))
    given = Keys(recipe.target).given(run)
    assert run.params.data.licences is None
    assert Path("mine") in given and Path("data/photos") not in given


def test_points_that_are_the_same_share_a_result(checkout: Path) -> None:
    """The three tables meet in one point, which is run once for all of them."""
    found = {}
    for name, point in (
        ("table4", "tvq"),
        ("table5", "image-and-code-losses"),
        ("table8", "structure-32"),
    ):
        _, recipe = load_recipe(name)
        (run,) = runs_of(recipe, name, points=[point], seeds=1)
        found[name] = Keys(recipe.target).key(run)
    assert len(set(found.values())) == 1


@pytest.mark.parametrize("profile", ["ablation", "lightweight", "lightweight-cpu"])
def test_recipes_that_score_on_the_way_train_the_tokenizers_of_the_others(profile: str) -> None:
    trained = []
    for name, point in (
        ("table4", "tvq"),
        ("table8-reconstruction", "structure-32"),
        ("figure6", "tvq-1024"),
    ):
        _, recipe = load_recipe(name, profile)
        (run,) = runs_of(recipe, name, points=[point], seeds=1)
        trained.append((run.values["tokenizer"], run.params.architecture))
    assert trained[0] == trained[1] == trained[2]


def test_a_key_follows_what_the_run_reads_and_nothing_else(checkout: Path) -> None:
    _, runs = small()
    first = Keys("train_tokenizer").key(runs[0])
    assert Keys("train_tokenizer").key(runs[1]).params != first.params
    assert Keys("evaluate").key(runs[0]).params != first.params
    later = replace(runs[0], values={**runs[0].values, "rap": {}, "predictor": {}})
    assert Keys("train_tokenizer").key(later) == first, "stages 2 and 3 are not run"
    (checkout / "tvqrap/objectives/rap.py").write_text("# other")
    (checkout / "tvqrap/cli/main.py").write_text("# other")
    assert Keys("train_tokenizer").key(runs[0]) == first
    (checkout / "tvqrap/networks/codebook.py").write_text("# other")
    changed = Keys("train_tokenizer").key(runs[0])
    assert changed.params == first.params and changed.inputs != first.inputs


def test_a_result_is_whole_or_not_there(checkout: Path, tmp_path: Path) -> None:
    _, runs = small()
    key = Keys("train_tokenizer").key(runs[0])
    assert load_result(key) is None
    with pytest.raises(FileNotFoundError):
        store_result(key, {}, {SCORES: checkout / "nowhere.json"})
    assert load_result(key) is None and not list(key.folder.parent.iterdir())
    keep(key, tmp_path, psnr_y=20.0)
    result = load_result(key)
    assert result is not None
    assert result.means["tokenizer"] == {"psnr_y": 20.0, "code_usage": 0.5}
    assert load_result(key, ["tokenizer"]) == result
    assert load_result(key, ["tokenizer-2"]) is None, "it was not scored after 2 steps"
    for damaged in ("{}", "[" * 100_000):
        (key.folder / SCORES).write_text(damaged)
        with pytest.raises(UserError, match=r"scores\.json: not readable as scores"):
            load_result(key)


def test_the_interval_is_students() -> None:
    mean = mean_over_seeds([1.0, 2.0, 3.0])
    assert mean.value == 2
    assert mean.half == pytest.approx(4.303 / 3**0.5)
    assert mean_over_seeds([5.0]).half is None
    assert mean_over_seeds([4.0] * 10).half == 0


def test_latents_and_parameters_are_counted() -> None:
    tvq, vq = latent_of(Architecture(), 256), latent_of(Architecture(structure=None), 256)
    assert (tvq.packed_bytes, tvq.code_bytes, tvq.structure_bytes) == (1280, 2048, 8192)
    assert (vq.packed_bytes, vq.structure_bytes) == (1280, 0)
    assert latent_of(Architecture(codebook=1000), 256).code_bits == 10
    assert latent_of(Architecture(codebook=1025), 256).code_bits == 11
    counted = parameters_of(Architecture())
    assert counted.tokenizer / 1e6 == pytest.approx(35.56, abs=0.006)
    assert counted.upscaler / 1e6 == pytest.approx(53.85, abs=0.006)
    assert parameters_of(Architecture(structure=None)).tokenizer < counted.tokenizer
