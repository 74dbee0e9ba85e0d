"""The documents: what they name exists, and what the README says to run runs."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer.main
from PIL import Image

from pipeline.shards.tar import read_shard
from pipeline.tokens.extract import extract_set
from stages.experiments.__main__ import app as experiments
from stages.params import RENAMED, Params, load_params
from stages.params_page import params_page
from tests.support.checkout import environment
from tests.support.documents import (
    GENERATED,
    ROOT,
    Command,
    Page,
    click_problem,
    commands,
    pages,
    tracked,
)
from tests.support.tokens import SETTINGS, make_material
from tvqrap.cli.main import app
from tvqrap.evaluation.metrics.registry import METRICS

PAGES = {page.name: page for page in pages()}
WRITTEN = [page for name, page in PAGES.items() if name not in GENERATED]
README = PAGES["README.md"]
FORMAT = PAGES["docs/data-format.md"]
CLI, EXPERIMENTS = (typer.main.get_command(each) for each in (app, experiments))
CODE_FOLDERS = r"(?:pipeline|tvqrap|stages|tests|docs)"
DVC_COMMANDS = ("cache", "commit", "exp", "metrics", "params", "plots", "queue", "repro", "status")
DVC_FLAGS = ("--queue", "--single-item", "--temp")
FILE_ENDINGS = ("csv", "html", "json", "md", "npy", "parquet", "png", "py", "tar", "tsv", "yaml")

each_page = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)


@cache
def param_keys() -> frozenset[str]:
    """Every dotted key of params.yaml and of the page of params, and every key that holds them."""
    text = (ROOT / "docs/params.md").read_text()
    keys = set(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE))

    def dotted(value: object, path: str = "") -> None:
        items = value.items() if isinstance(value, dict) else ()
        for name, inner in items:
            key = f"{path}{name}"
            keys.add(key)
            dotted(inner, f"{key}.")

    dotted(load_params(ROOT / "params.yaml").model_dump())
    parents = {key[: dot.start()] for key in keys for dot in re.finditer(r"\.", key)}
    return frozenset(keys | parents)


def param_parts() -> set[str]:
    """The names between the dots of all keys."""
    return {part for key in param_keys() for part in key.split(".")}


@cache
def words_of_code() -> frozenset[str]:
    """Every identifier in the tracked code, params and DVC files."""
    names = [name for name in tracked() if name.endswith((".py", ".yaml", ".toml", "Makefile"))]
    names = [name for name in names if name != "tests/test_documents.py"]
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in names)
    return frozenset(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text))


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Page) -> None:
    broken = []
    for link in page.links:
        path, _, anchor = link.partition("#")
        target = (ROOT / page.name).parent / path if path else ROOT / page.name
        name = str(target.resolve().relative_to(ROOT))
        missing = name not in tracked()
        if missing or (anchor and anchor not in PAGES[name].anchors):
            broken.append(link)
    assert broken == []


@each_page
def test_paths_exist(page: Page) -> None:
    named = re.findall(rf"(?<![\w./-])({CODE_FOLDERS}/[\w./-]*\w)", page.text)
    assert sorted({path for path in named if path not in tracked()}) == []
    bare = {span for span in page.spans if re.fullmatch(r"[\w-]+\.(py|yaml|csv)", span)}
    known = {Path(name).name for name in tracked()}
    assert bare - known - {"per_image.csv", "mine.yaml"} == set()


@each_page
def test_commands_and_their_flags_exist(page: Page) -> None:
    problems = [
        f"{' '.join(command.words)}: {problem}"
        for code in page.code
        for command in commands(code)
        if (problem := _problem(command))
    ]
    assert problems == []


def _problem(command: Command) -> str | None:
    """Why there is no such command, None if there is."""
    if command.program == "tvqrap-cli":
        return click_problem(CLI, command, 1)
    if command.program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        unknown = set(command.words[1:]) - set(targets)
        return f"no such target: {unknown}" if unknown else None
    if command.program == "dvc":
        return _dvc_problem(command)
    if command.program == "python -m stages.experiments":
        return click_problem(EXPERIMENTS, command, 3)
    return _module_problem(command)


def _dvc_problem(command: Command) -> str | None:
    if command.words[1:2] and command.words[1] not in DVC_COMMANDS:
        return f"{command.words[1]!r} is not among {DVC_COMMANDS}"
    stages = re.findall(r"^  (\w+):$", (ROOT / "dvc.yaml").read_text(), re.MULTILINE)
    if command.words[1:2] == ("repro",):
        named = [word for word in command.words[2:] if re.fullmatch(r"[a-z_]+", word)]
        if set(named) - set(stages):
            return f"no such stage: {set(named) - set(stages)}"
    given = [word for flag, word in pairwise(command.words) if flag == "-S"]
    if given and command.words[1:3] != ("exp", "run"):
        return "-S is an option of `dvc exp run` alone"
    unknown = {word.partition("=")[0] for word in given} - param_keys() - {"KEY"}
    unknown |= set(re.findall(r"(\w+):", " ".join(given))) - param_parts()
    return f"no such param: {unknown}" if unknown else None


def _module_problem(command: Command) -> str | None:
    if len(command.words) < 3:
        return None
    module = command.words[2]
    if module in ("pytest", "stages.STAGE"):
        return None
    base = module.replace(".", "/")
    file = next((f for f in (f"{base}.py", f"{base}/__main__.py") if f in tracked()), None)
    if file is None:
        return f"no module {module}"
    source = (ROOT / file).read_text()
    unknown = [flag for flag in command.flags if f'"{flag}"' not in source]
    return f"{file} has no {unknown}" if unknown else None


@each_page
def test_flags_in_the_text_exist(page: Page) -> None:
    """Of spans such as `--colour match`, whose command stands elsewhere."""
    benchmarks = [name for name in tracked() if name.startswith("tests/benchmarks/bench_")]
    sources = "\n".join((ROOT / name).read_text() for name in benchmarks)
    known = {*re.findall(r'"(--[\w-]+)', sources), *_options_of_the_cli(), *DVC_FLAGS}
    flags = [re.match(r"--[\w-]+", span) for span in page.spans]
    assert {flag[0] for flag in flags if flag} - known == set()


def _options_of_the_cli() -> set[str]:
    found: set[str] = set()
    todo = [CLI, EXPERIMENTS]
    while todo:
        command = todo.pop()
        todo += getattr(command, "commands", {}).values()
        found |= {
            option for param in command.params for option in (*param.opts, *param.secondary_opts)
        }
    return found


@each_page
def test_params_exist(page: Page) -> None:
    """Of spans such as `rap.steps`, `image.grid` and `lr_schedule: constant`."""
    parts = param_parts()
    tails = {key[start:] for key in param_keys() for start in _starts(key)}
    unknown = set()
    for span in page.spans:
        key, _, value = span.partition(": ")
        key = re.sub(r"\.(SET|[0-9]+)(?=\.|$)", ".NAME", key)
        if value and re.fullmatch(r"[a-z0-9_]+", key):
            unknown |= set() if key in parts else {span}
        elif re.fullmatch(r"[a-z_0-9]+(\.[A-Za-z0-9_]+)+", key) and key.split(".")[0] in parts:
            is_file = key.rpartition(".")[2] in FILE_ENDINGS
            unknown |= set() if is_file or key in tails else {span}
    assert unknown - {"kind: sinc", "seeds: [1]"} == set()


def _starts(key: str) -> list[int]:
    return [0, *(place.end() for place in re.finditer(r"\.", key))]


@each_page
def test_identifiers_exist(page: Page) -> None:
    """Of spans such as `vq_warmup_steps` and `TVQRAP_EXECUTOR`: some tracked file has the word."""
    spans = {re.split(r"[=:( ]", span)[0] for span in page.spans}
    named = {word for word in spans if re.fullmatch(r"[A-Za-z]+(_[A-Za-z0-9]+)+", word)}
    assert (
        named - words_of_code() - {"CUDA_VISIBLE_DEVICES", "PHOTOKEY_CCCCC", "lpips_vgg"} == set()
    )


@each_page
def test_dotted_names_of_code_exist(page: Page) -> None:
    for name in re.findall(r"`((?:tvqrap|pipeline|stages)(?:\.\w+)+)", page.prose):
        module, attribute = name.rpartition(".")[::2]
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name


def test_architecture_names_every_folder() -> None:
    spans = PAGES["docs/architecture.md"].spans
    for package in ("tvqrap", "pipeline", "stages"):
        folders = {
            name.split("/")[1] for name in tracked() if re.match(rf"{package}/\w+/\w+\.py", name)
        }
        assert folders - {span.rstrip("/") for span in spans} == set()


def test_environment_variables_exist() -> None:
    for page in WRITTEN:
        named = set(re.findall(r"TVQRAP_[A-Z_]+", page.text))
        assert named <= words_of_code(), page.name


def test_page_of_params_is_what_the_command_makes() -> None:
    made = params_page((ROOT / "stages/profiles/laptop.yaml").read_text(encoding="utf-8"))
    assert (ROOT / "docs/params.md").read_text(encoding="utf-8") == made, (
        "run: tvqrap-cli params docs -o docs/params.md"
    )
    rows = [line.split(" | ") for line in made.splitlines() if line.startswith("| `")]
    assert {row[0].split("`")[1].split(".")[0] for row in rows} == set(Params.model_fields)
    assert [row[0] for row in rows if not row[3].strip(" |")] == []


def test_changelog_names_renamed_params() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for old, new in RENAMED.items():
        assert re.search(rf"\| `[\w.]*\b{old}` \| `[\w.]*\b{new}` \|", text), old


@pytest.mark.parametrize("name", ["README.md", "docs/results.md"])
def test_scores_of_the_default_run_are_those_in_git(name: str) -> None:
    """The first table of the page against evaluation/metrics.json, as far as it has decimals."""
    metrics = json.loads((ROOT / "evaluation/metrics.json").read_text())
    columns = {METRICS[column].title.lower(): column for column in metrics["rap"]}
    (table,) = re.findall(r"(?:^\|.*\n)+", PAGES[name].text, re.MULTILINE)[:1]
    head, _, *rows = [line.split("|")[1:-1] for line in table.splitlines()]
    for row in rows:
        (model,) = [each for each in metrics if each in row[0]]
        for title, cell in zip(head[1:], row[1:], strict=False):
            column = columns.get(title.strip(" ↑↓").lower())
            if column is not None:
                number = cell.strip("* ")
                digits = len(number.partition(".")[2])
                assert number == f"{metrics[model][column]:.{digits}f}", (row[0], title)


def test_readme_is_short() -> None:
    assert len(README.text.split()) <= 1300
    assert README.text.count("\n|---") == 1


# The commands of the README that take seconds, in its order; they run in a copy of the checkout.
QUICK = (
    "tvqrap-cli upscale photo.jpg -o large.png",
    "tvqrap-cli decompose photo.jpg -o OUT",
    "tvqrap-cli pairs preview my-photos/one.jpg -o sheet.png --degradation test",
    "tvqrap-cli params use small",
    "tvqrap-cli metrics",
)
# Those that take longer or need what a test has not, with the reason.
SLOW = {
    "pip install .": "tests of the wheel",
    "tvqrap-cli export --format onnx -o upscaler.onnx": "half a minute",
    "tvqrap-cli import CHECKPOINT.pth -o given/rap": "a checkpoint of the authors",
    "make repro": "minutes",
    "make test": "this suite",
    "dvc metrics show": "a run",
    "dvc plots show": "a run",
    "tvqrap-cli upscale data/photos/chelsea.jpg -o large.png": "half a minute",
    "dvc exp run -S data.photos=my-photos -S data.licences=null": "minutes",
    "dvc exp run -S codebook=256": "minutes",
    "dvc exp run -S compute.device=cuda -S tokens.device=cuda": "a GPU",
    "dvc exp show --only-changed": "a run",
    "tvqrap-cli params plan paper": "half a minute",
    "dvc repro extract_tokens": "a cluster",
    "tvqrap-cli tokens inspect data/tokens": "a run",
    "tvqrap-cli tokens verify data/tokens --deep": "a run",
    "tvqrap-cli tokens stats data/tokens -o stats": "a run",
    "tvqrap-cli tokens plan data/pairs --workers 8": "a run",
    "tvqrap-cli evaluate bicubic models/rap RealESRGAN_x4plus.pth --pairs data/pairs/test "
    "-o scores": "other people's files",
    "tvqrap-cli evaluate bicubic models/rap finished/ --gt gt/ --lq lq/ -o scores": "files",
    "tvqrap-cli benchmark package rrdb --sides 64": "half a minute",
    "python -m stages.experiments run figure6": "hours",
    "python -m stages.experiments collect figure6": "a run",
}


def _readme_commands() -> list[str]:
    spans = [span for span in README.spans if span.startswith("tvqrap-cli") and " -o " in span]
    found = [
        " ".join(command.words) for code in (*README.lines, *spans) for command in commands(code)
    ]
    return found + [line for line in README.lines if line.startswith("pip ")]


def test_each_command_of_the_readme_is_run_or_has_a_reason() -> None:
    assert sorted(_readme_commands()) == sorted([*QUICK, *SLOW])


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a checkout has for these commands, a small photo.jpg and a folder my-photos."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("stages/profiles", "data/photos", "models/none"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, root / name)
    photo = Image.open(ROOT / "data/photos/chelsea.jpg")
    photo.resize((48, 32)).save(root / "photo.jpg")
    (root / "my-photos").mkdir()
    photo.save(root / "my-photos/one.jpg")
    return root


def _run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        words, cwd=root, env=environment(root), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.parametrize("command", QUICK)
def test_quick_commands_run(command: str, copy: Path) -> None:
    program, *arguments = command.split()
    _run(copy, str(Path(sys.executable).parent / program), *arguments)
    if "-o" in arguments:
        assert (copy / arguments[arguments.index("-o") + 1]).exists()
    if arguments[0] == "upscale":
        assert Image.open(copy / "large.png").size == (4 * 48, 4 * 32)


def test_python_of_the_readme_and_the_card_runs(copy: Path) -> None:
    card = PAGES["tvqrap/weights/README.md"]
    codes = {code for language, code in (*README.fences, *card.fences) if language == "python"}
    assert codes
    for code in codes:
        _run(copy, sys.executable, "-c", f"{code}\nassert large.size == (192, 128)")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a small set of pairs and of its tokens."""
    root = tmp_path_factory.mktemp("sets")
    pairs, tokenizer = make_material(root)
    extract_set(pairs, tokenizer, root / "tokens", SETTINGS, executor="serial", workers=1)
    return pairs, root / "tokens/train"


def test_program_of_the_format_checks_sets(sets: tuple[Path, Path], tmp_path: Path) -> None:
    (program,) = (code for language, code in FORMAT.fences if language == "python")
    for folder in sets:
        done = _run(tmp_path, sys.executable, "-c", program, str(folder))
        assert done.stdout.endswith("7 samples, all digests agree\n")
    broken = shutil.copytree(sets[1], tmp_path / "broken")
    shutil.copy(broken / "000000.tar", broken / "000001.tar")
    with pytest.raises(AssertionError, match="sha256"):
        _run(tmp_path, sys.executable, "-c", program, str(broken))


def test_the_format_names_all_keys_and_members(sets: tuple[Path, Path]) -> None:
    documented = set(FORMAT.spans)
    for folder in sets:
        manifest = json.loads((folder / "manifest.json").read_text())
        sample = next(read_shard(folder / "000000.tar"))
        record = json.loads(sample.members["json"])
        names = {*manifest, *manifest["extra"], *manifest["shards"][0], *record, *sample.members}
        assert names - documented == set()
        for step in (step for steps in record["degradations"] for step in steps):
            assert {*step, step["step"]} - documented == set()
        index = pq.read_schema(folder / "index.parquet")
        drawn = index.field("degradations").type.value_type
        assert {*index.names, *(field.name for field in drawn)} - documented == set()
