"""The paper's ablations are plain values of params.yaml, set as `dvc exp run -S` sets them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from stages.experiments.recipe import load_recipe, runs_of
from stages.params import load_params
from stages.profile import expanded, profile_path
from tests.support.paths import ROOT
from tests.support.training import image_losses, predictor_task, rap_task, tokenizer_task
from tvqrap.architecture import Architecture
from tvqrap.runtime.errors import UsageError
from tvqrap.training.batch import Batch

RECIPES = sorted((ROOT / "stages/experiments/recipes").glob("*.yaml"))


def set_by_dvc(folder: Path, profile: str, *overrides: str) -> Path:
    """params.yaml of a profile after `-S` of each override."""
    path = folder / "params.yaml"
    path.write_text(expanded(profile_path(profile, ROOT)))
    apply_overrides(path, list(overrides))
    return path


@pytest.mark.parametrize("profile", ["ablation", "paper"])
def test_every_network_of_the_paper_can_be_asked_for(profile: str, tmp_path: Path) -> None:
    for codebook in (64, 8192):
        params = load_params(set_by_dvc(tmp_path, profile, f"codebook={codebook}"))
        assert params.architecture.codebook == codebook
    networks = [(8, structure) for structure in ("none", 8, 16, 32, 64, 128)]
    for texture, structure in (*networks, (4, "none"), (4, 128)):
        chosen = (f"texture={texture}", f"structure={structure}")
        params = load_params(set_by_dvc(tmp_path, profile, *chosen))
        assert params.architecture.texture == texture
        assert params.architecture.structure == (None if structure == "none" else structure)


@pytest.mark.parametrize("profile", ["ablation", "laptop", "paper"])
def test_every_choice_of_training_can_be_asked_for(profile: str, tmp_path: Path) -> None:
    assert load_params(set_by_dvc(tmp_path, profile, "rap.steps=0")).rap.steps == 0
    rap = load_params(
        set_by_dvc(tmp_path, profile, "rap.loss_weights.structure=0", "rap.loss_weights.code=0")
    ).rap
    assert (rap.loss_weights.structure, rap.loss_weights.code) == (0, 0)
    rap = load_params(
        set_by_dvc(tmp_path, profile, "rap.loss_weights.structure=1.0", "rap.loss_weights.code=0.5")
    ).rap
    assert (rap.loss_weights.structure, rap.loss_weights.code) == (1, 0.5)
    for side in ("encoder", "codebook"):
        path = set_by_dvc(tmp_path, profile, f"tokenizer.commitment_on={side}")
        assert load_params(path).tokenizer.commitment_on == side


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["structure=256"], ["structure is 256", "8, 16, 32, 64, 128 and none"]),
        (["structure=null"], ["structure: found None", "8, 16, 32, 64, 128 and none"]),
        (["texture=16"], ["texture is 16", "4 and 8"]),
        (["codebook=1"], ["codebook is 1", "2 to 65536"]),
        (["structure=128"], ["train.size is 64", "val.size is 64", "multiples of 128 (LR of 32)"]),
        (["texture=8", "structure=none", "pairs.sets.test.size=96"], ["96", "multiples of 64"]),
    ],
)
def test_a_network_that_cannot_be_is_refused_with_what_can(
    overrides: list[str], words: list[str], tmp_path: Path
) -> None:
    path = set_by_dvc(tmp_path, "laptop", *overrides)
    with pytest.raises(UsageError) as caught:
        load_params(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_points_of_recipes_are_what_dvc_sets(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    name, loaded = load_recipe(recipe.stem)
    for run in runs_of(loaded, name, seeds=1):
        overrides = {**loaded.points[run.point], "seed": run.seed}
        if run.milestones:
            overrides["tokenizer.monitoring.keep_every"] = run.milestones[0]
        path = set_by_dvc(tmp_path, loaded.profile, *(f"{k}={v}" for k, v in overrides.items()))
        assert YAML(typ="safe", pure=True).load(path.read_text()) == dict(run.values)
        assert load_params(path) == run.params


def batch_for(architecture: Architecture, number: int) -> Batch:
    """Random HR, LR and tokens of the network's smallest size."""
    generator = torch.Generator().manual_seed(number)
    side = architecture.hr_multiple

    def image(side: int) -> torch.Tensor:
        return torch.randint(256, (2, side, side, 3), dtype=torch.uint8, generator=generator)

    structure = None
    if architecture.structure is not None:
        shape = (2, architecture.structure_channels, *[side // architecture.structure] * 2)
        structure = torch.randn(shape, generator=generator).half()
    codes = side // architecture.texture
    return Batch(
        keys=("a_0", "b_0"),
        hr=image(side),
        lr=image(side // 4),
        structure=structure,
        codes=torch.randint(architecture.codebook, (2, codes, codes), generator=generator),
    )


@pytest.mark.parametrize(
    ("texture", "structure"), [(4, None), (4, 8), (4, 128), (8, None), (8, 8), (8, 32)]
)
@pytest.mark.parametrize("make", [tokenizer_task, predictor_task, rap_task])
def test_every_network_takes_a_step_of_every_stage(
    make: Any, texture: int, structure: int | None
) -> None:
    architecture = Architecture(0.0625, codebook=8, texture=texture, structure=structure)
    image = {} if make is predictor_task else {"image": image_losses(perceptual=0.0)}
    task = make(architecture, **image)
    terms = task.update(batch_for(architecture, 0), 2)
    assert all(value.isfinite() for value in terms.values())
    assert ("structure" in terms or "alignment" in terms) == (structure is not None)
