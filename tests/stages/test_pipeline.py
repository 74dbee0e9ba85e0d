"""dvc.yaml declares what each stage reads: its code, its params, its files. No more, no less."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.params import Params
from tests.stages.imports import NOT_INPUTS, PACKAGES, code_of_stage, imported

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
LAYERS = {"tvqrap": 0, "pipeline": 1, "stages": 2}


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
    if "architecture" in found:
        found -= {"architecture"}
        found |= {"width", "codebook", "texture", "structure"}
    return found


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


def outs(entry: dict[str, object]) -> set[str]:
    listed = [*entry.get("outs", []), *entry.get("metrics", [])]  # type: ignore[misc]
    return {name if isinstance(name, str) else next(iter(name)) for name in listed}


@pytest.mark.parametrize("name", STAGES)
def test_code_is_declared_exactly(name: str) -> None:
    declared = sorted(dep for dep in STAGES[name]["deps"] if dep.endswith(".py"))
    assert declared == code_of_stage(ROOT, name), "see python -m tests.stages.imports"


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
    named = [*(dep for dep in entry["deps"] if not dep.endswith(".py")), *outs(entry)]
    for path in paths_in((ROOT / f"stages/{name}.py").read_text()):
        related = [
            other
            for other in named
            if other == path or other.startswith(f"{path}/") or path.startswith(f"{other}/")
        ]
        assert related, f"{path} is neither among the deps nor the outs of {name}"


def test_every_stage_runs_its_own_module() -> None:
    for name, entry in STAGES.items():
        assert entry["cmd"] == f"stages/run {name}"
        assert (ROOT / f"stages/{name}.py").is_file()


def test_exempt_files_exist_and_settings_hold_no_defaults() -> None:
    for name in NOT_INPUTS:
        assert (ROOT / name).is_file(), name
    pending = [Params]
    while pending:
        model = pending.pop()
        for key, field in model.model_fields.items():
            assert field.is_required(), f"{model.__name__}.{key} has a default"
            for inner in [field.annotation, *getattr(field.annotation, "__args__", ())]:
                if hasattr(inner, "model_fields"):
                    pending.append(inner)


def test_imports_run_one_way() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            relative = file.relative_to(ROOT)
            roof = relative.parts[:2] == ("tvqrap", "cli")
            for other in imported(ROOT, file):
                target = other.relative_to(ROOT)
                if target.parts[:2] == ("tvqrap", "cli"):
                    assert roof, f"{relative} imports the command line"
                elif not roof:
                    assert LAYERS[target.parts[0]] <= LAYERS[package], f"{relative}: {target}"


def test_no_circles() -> None:
    edges = {
        file: imported(ROOT, file)
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
    }
    done: set[Path] = set()

    def visit(file: Path, trail: tuple[Path, ...]) -> None:
        assert file not in trail, f"circle: {[path.name for path in (*trail, file)]}"
        if file not in done:
            for other in edges[file]:
                visit(other, (*trail, file))
            done.add(file)

    for file in edges:
        visit(file, ())


def test_nothing_refers_outside_the_checkout() -> None:
    for package in (*PACKAGES, "tests"):
        for file in (ROOT / package).rglob("*.py"):
            assert "../" + "shared" not in file.read_text(), file
