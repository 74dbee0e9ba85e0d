"""dvc.yaml declares what each stage reads: its code, its params, its files. No more, no less."""

import ast

import pytest
from ruamel.yaml import YAML

from stages.params import Params
from stages.runner.declared import CODE, outs_of
from tests.support.imports import NOT_INPUTS, PACKAGES, dependencies_of_stage
from tests.support.paths import ROOT

STAGES = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]


def attributes_of_params(source: str) -> set[str]:
    """Names read as `params.NAME` or `stage.params.NAME`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        if (isinstance(owner, ast.Name) and owner.id == "params") or (
            isinstance(owner, ast.Attribute) and owner.attr == "params"
        ):
            found.add(node.attr)
    tokenizer = {"width", "codebook", "texture", "structure", "structure_width"}
    computed = {
        "tokenizer_architecture": tokenizer,
        "architecture": tokenizer | {"swin_blocks"},
    }
    return found.difference(computed).union(*(computed[name] for name in found & {*computed}))


def paths_in(source: str) -> set[str]:
    """Folders named as `Path("...")` in a stage."""
    return {
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "Path"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


@pytest.mark.parametrize("name", STAGES)
def test_code_is_declared_exactly(name: str) -> None:
    declared = [dep for dep in STAGES[name]["deps"] if dep.split("/")[0] in CODE]
    assert declared == dependencies_of_stage(ROOT, name), "see python -m tests.support.imports"


@pytest.mark.parametrize("name", STAGES)
def test_params_are_declared_exactly(name: str) -> None:
    touched = attributes_of_params((ROOT / f"stages/{name}.py").read_text())
    declared = set(STAGES[name]["params"])
    # The folder that `init` and `data.photos` name is a dependency; so is the param itself.
    assert declared == touched
    assert declared <= set(Params.model_fields)


@pytest.mark.parametrize("name", STAGES)
def test_folders_are_declared(name: str) -> None:
    entry = STAGES[name]
    named = [
        *(dep for dep in entry["deps"] if dep.split("/")[0] not in CODE),
        *map(str, outs_of(entry)),
    ]
    for path in paths_in((ROOT / f"stages/{name}.py").read_text()):
        related = [
            other
            for other in named
            if other == path or other.startswith(f"{path}/") or path.startswith(f"{other}/")
        ]
        assert related, f"{path} is neither among the deps nor the outs of {name}"


def test_no_plot_at_the_top_level_is_a_path() -> None:
    """`dvc exp run` loads those, which fails in a fresh clone that has dvc.lock but no cache."""
    for plot in YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["plots"]:
        assert isinstance(plot, dict)
        assert all(isinstance(entry["y"], dict) for entry in plot.values()), plot


def test_every_stage_runs_its_own_module() -> None:
    for name, entry in STAGES.items():
        assert entry["cmd"] == f"stages/run {name}"
        assert (ROOT / f"stages/{name}.py").is_file()


def test_exempt_files_exist_and_settings_hold_no_defaults() -> None:
    for name in NOT_INPUTS:
        assert (ROOT / name).exists(), name
    pending = [Params]
    while pending:
        model = pending.pop()
        for key, field in model.model_fields.items():
            assert field.is_required(), f"{model.__name__}.{key} has a default"
            for inner in [field.annotation, *getattr(field.annotation, "__args__", ())]:
                if hasattr(inner, "model_fields"):
                    pending.append(inner)


def test_nothing_refers_outside_the_checkout() -> None:
    for package in (*PACKAGES, "tests"):
        for file in (ROOT / package).rglob("*.py"):
            assert "../" + "shared" not in file.read_text(), file
