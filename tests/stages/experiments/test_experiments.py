"""Recipes of experiments: what they run, what is kept of it and how it is shown."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from stages.experiments import run as running
from stages.experiments.__main__ import main
from stages.experiments.chart import draw_chart
from stages.experiments.collect import collect
from stages.experiments.intervals import mean_over_seeds
from stages.experiments.recipe import Recipe, Run, load_recipe, recipe_names, runs_of
from stages.experiments.results import (
    EXPERIMENTS,
    SCORES,
    Key,
    Keys,
    load_result,
    other_inputs,
    store_result,
)
from stages.experiments.sizes import latent_of, parameters_of
from stages.experiments.table import filled, markdown_table
from stages.experiments.working_copy import WorkingCopy
from tests.support.checkout import environment, make_checkout
from tests.support.paths import ROOT
from tests.test_end_to_end import STAGES
from tvqrap.architecture import Architecture
from tvqrap.runtime.errors import UsageError, UserError

SMALL = """
title: Two points
paper: Figure 0
profile: smoke
target: train_tokenizer
seeds: [1, 2, 3]
points:
  wide: {codebook: 32}
  narrow: {codebook: 16, structure: none}
models: [tokenizer]
scores: [psnr_y, stlpips_vgg]
baseline: narrow
chart:
  x: codebook
  scores: [psnr_y]
  lines: {TVQ: [wide], VQ: [narrow]}
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The code and photographs of the project, and the recipe small.yaml; the working directory."""
    for part in ("stages", "pipeline", "tvqrap"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignored)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/photos").symlink_to(ROOT / "data/photos")
    (tmp_path / "models/none").mkdir(parents=True)
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small() -> tuple[Recipe, list[Run]]:
    name, recipe = load_recipe("small.yaml")
    return recipe, runs_of(recipe, name)


def scores_file(folder: Path, means: Mapping[str, float], model: str = "tokenizer") -> Path:
    """Scores as `evaluate` writes them, of 12 images."""
    intervals = {
        column: {"mean": mean, "low": mean, "high": mean, "photos": 2, "images": 12}
        for column, mean in means.items()
    }
    path = folder / "made.json"
    document = {
        "protocol": {"data": {"images": 12}},
        "scores": {model: intervals},
        "totals": {model: {"code_usage": 0.5}},
        "failures": [],
    }
    path.write_text(json.dumps(document))
    return path


def keep(key: Key, folder: Path, **means: float) -> None:
    """Stores made-up scores under a key."""
    store_result(key, {"point": "made up"}, {SCORES: scores_file(folder, means)})


def test_the_papers_figure_and_tables_have_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert recipe_names() == ["figure6", "table4", "table5", "table8"]
    for name in recipe_names():
        _, recipe = load_recipe(name)
        runs = runs_of(recipe, name)
        assert len(runs) == 3 * len(recipe.points)
        assert {run.params.seed for run in runs} == {1, 2, 3}


def test_a_grid_runs_seed_by_seed(checkout: Path) -> None:
    recipe, runs = small()
    wanted = [(point, seed) for seed in (1, 2, 3) for point in ("wide", "narrow")]
    assert [(run.point, run.seed) for run in runs] == wanted
    assert runs[1].params.architecture.structure is None
    assert runs[1].params.codebook == 16
    assert runs[1].values["structure"] == "none" and runs[0].values["structure"] == 16
    chosen = runs_of(recipe, "small", points=["narrow"], seeds=2)
    assert [(run.point, run.seed) for run in chosen] == [("narrow", 1), ("narrow", 2)]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("codebook: 32", "codebok: 32", ["points.wide: codebok is no key"]),
        ("codebook: 32", "rap.stepz: 0", ["rap.stepz is no key"]),
        ("codebook: 32", "rap.code: 0", ["rap.code is no key", "expected rap.loss_weights.code"]),
        ("codebook: 32", "structure: 12", ["points.wide", "structure is 12", "8, 16, 32"]),
        ("codebook: 32", "structure: 128", ["points.wide", "size is 64", "multiples of 128"]),
        ("codebook: 32", "seed: 3", ["points.wide.seed"]),
        ("profile: smoke", "profile: smok", ["'smok'", "smoke"]),
        ("seeds: [1, 2, 3]", "seeds: [1, 1]", ["seeds", "[1, 1]"]),
        ("models: [tokenizer]", "models: [rap]", ["models", "rap", "tokenizer"]),
        ("scores: [psnr_y, st", "scores: [psnr, st", ["scores", "'psnr'", "psnr_y"]),
        ("VQ: [narrow]", "VQ: [norrow]", ["chart.lines.VQ", "'norrow'", "wide, narrow"]),
        ("baseline: narrow", "baseline: norrow", ["baseline", "'norrow'", "wide, narrow"]),
        ("title: Two", "titel: Two", ["titel: unknown key", "title"]),
        ("target: train_tokenizer", "target: make_pairs", ["target", "'make_pairs'"]),
    ],
)
def test_a_wrong_recipe_is_one_line(checkout: Path, old: str, new: str, words: list[str]) -> None:
    assert old in SMALL
    (checkout / "small.yaml").write_text(SMALL.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        small()
    message = str(caught.value)
    assert message.startswith("small") and "\n" not in message
    for word in words:
        assert word in message


def test_a_wrong_request_is_one_line(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, words in (
        (["run", "figure7"], "'figure7' is not known, expected one of figure6, table4"),
        (["run", "small.yaml", "--points", "wide,middle"], "'middle' is not among the points"),
        (["run", "small.yaml", "--seeds", "4"], "--seeds is 4; allowed with small are 1 to 3"),
        (["collect", "absent.yaml"], "'absent.yaml' is not known"),
    ):
        monkeypatch.setattr(sys, "argv", ["experiments", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr().err
        assert caught.value.code == 2 and said.startswith("error: ") and words in said
    monkeypatch.chdir(checkout / "data")
    with pytest.raises(SystemExit):
        main()
    assert "expected the top folder of a checkout" in capsys.readouterr().err


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
    (key.folder / SCORES).write_text("{}")
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


def test_a_table_shows_means_intervals_and_what_is_missing(checkout: Path, tmp_path: Path) -> None:
    recipe, runs = small()
    keys = Keys(recipe.target)
    for run in runs:
        if run.point == "wide":
            keep(keys.key(run), tmp_path, psnr_y=19.0 + run.seed, stlpips_vgg=0.5)
    keep(keys.key(runs[1]), tmp_path, psnr_y=18.0)  # narrow, one seed, one score
    table = markdown_table(collect(recipe, runs), "small")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[:4]]
    assert rows[0] == [
        "point",
        "`codebook`",
        "`structure`",
        "codes, bytes (stored)",
        "structure, bytes",
        "tokenizer, parameters",
        "PSNR-Y ↑",
        "ST-LPIPS vgg ↓",
    ]
    # 64x64 test images: 16x16 codes of 5 bits; 4x4 structure of 8 channels.
    assert rows[2][:5] == ["wide", "32", "16", "160 (512)", "256"]
    assert rows[2][6:] == ["21.00 ± 2.48", "0.5000 ± 0.0000"]
    assert rows[3][:5] == ["narrow", "16", "none", "128 (512)", "0"]
    assert rows[3][6:] == ["18.00", "–"]
    assert "**2 of 6 runs are missing**: narrow (seeds 2, 3)." in table
    assert "t = 4.303 for 3" in table and "12 test images of 64x64" in table
    assert keys.key(runs[0]).inputs in table


def test_differences_from_the_baseline_are_taken_seed_by_seed(
    checkout: Path, tmp_path: Path
) -> None:
    recipe, runs = small()
    keys = Keys(recipe.target)
    for run in runs:  # seeds move both points by the same, and the difference by little
        better = 1.0 + 0.1 * run.seed if run.point == "wide" else 0.0
        if run.seed != 3 or run.point == "wide":
            keep(keys.key(run), tmp_path, psnr_y=20.0 + 5 * run.seed + better)
    table = markdown_table(collect(recipe, runs), "small")
    assert "Less `narrow` with the same seed" in table
    head, _, row = table.splitlines()[-3:]
    assert head == "| point | PSNR-Y ↑ | ST-LPIPS vgg ↓ |"
    # Of the seeds 1 and 2, which both points have: 1.1 and 1.2.
    assert row == "| wide | +1.15 ± 0.64 | – |"


def test_without_results_every_score_is_missing(checkout: Path) -> None:
    recipe, runs = small()
    table = markdown_table(collect(recipe, runs), "small")
    # Of two points, of their difference, and in the note.
    assert table.count("missing") == 2 * len(recipe.points) + 2 + 1
    assert "**6 of 6 runs are missing**: wide (seeds 1, 2, 3), narrow (seeds 1, 2, 3)." in table


def test_a_table_of_the_whole_road_has_a_line_per_model(checkout: Path, tmp_path: Path) -> None:
    name, recipe = load_recipe("table4")
    runs = runs_of(recipe, name)
    path = scores_file(tmp_path, {"psnr_y": 22.5}, model="rap")
    store_result(Keys(recipe.target).key(runs[1]), {}, {SCORES: path})
    lines = markdown_table(collect(recipe, runs), name).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:8]] == ["vq", "", "", "tvq", "", ""]
    assert "upscaler, parameters" in lines[0] and "| rap | 22.50 |" in lines[7]


def test_results_of_other_code_are_left_out_unless_asked_for(
    checkout: Path, tmp_path: Path
) -> None:
    recipe, runs = small()
    before = Keys(recipe.target).key(runs[0])
    keep(before, tmp_path, psnr_y=21.0)
    (checkout / "tvqrap/networks/codebook.py").write_text("# other")
    now = Keys(recipe.target).key(runs[0])
    assert other_inputs(now) == {before.inputs}
    collection = collect(recipe, runs)
    assert collection.points[0].mean("tokenizer", "psnr_y") is None
    assert collection.others == (before.inputs,)
    mean = collect(recipe, runs, before.inputs).points[0].mean("tokenizer", "psnr_y")
    assert mean is not None and mean.value == 21


@pytest.mark.parametrize("finished", [0, 2, 6])
def test_a_chart_is_drawn_whatever_is_missing(
    checkout: Path, tmp_path: Path, finished: int
) -> None:
    recipe, runs = small()
    for run in runs[:finished]:
        keep(Keys(recipe.target).key(run), tmp_path, psnr_y=20.0 + run.seed)
    draw_chart(collect(recipe, runs), tmp_path / "chart.png")
    assert Image.open(tmp_path / "chart.png").size[0] > 300
    assert not list(tmp_path.glob(".chart*"))


def test_collecting_fills_a_page_between_its_marks(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = checkout / "page.md"
    start = "before\n<!-- small: begin -->\nold\n<!-- small: end -->\nafter\n"
    page.write_text(start)
    monkeypatch.setattr(sys, "argv", ["experiments", "collect", "small.yaml", "-o", "page.md"])
    for _ in range(2):
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 0
        text = page.read_text()
        assert text.startswith("before\n<!-- small: begin -->\n\n| point |")
        assert text.endswith("![Two points](small.png)\n\n<!-- small: end -->\nafter\n")
        assert "old" not in text
    assert (checkout / "small.png").is_file()
    page.write_text("no marks\n")
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1 and page.read_text() == "no marks\n"
    assert "<!-- small: begin -->" in capsys.readouterr().err
    with pytest.raises(UserError, match="once each"):
        filled(start + start, "small", [""], "page.md")


def test_finished_runs_stay_and_failed_ones_are_named(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, runs = small()
    ran: list[str] = []
    failing = {"narrow 2"}

    def made_up(copy: WorkingCopy, recipe: Recipe, run: Run) -> dict[str, Path]:
        ran.append(f"{run.point} {run.seed}")
        if ran[-1] in failing:
            raise UserError("train_tokenizer: no luck (see log)")
        return {SCORES: scores_file(checkout, {"psnr_y": 20.0})}

    monkeypatch.setattr(WorkingCopy, "refresh", lambda *_: None)
    monkeypatch.setattr(running, "run_point", made_up)
    assert running.run_recipe("small", recipe, runs[:4]) == ["narrow seed 2"]
    assert ran == ["wide 1", "narrow 1", "wide 2", "narrow 2"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "wide seed 1: done in 0:00:00 (1 of 4, about 0:00:00 left)" in lines[1]
    assert "narrow seed 2: failed: train_tokenizer: no luck (see log);" in lines[4]
    failing.clear()
    ran.clear()
    assert running.run_recipe("small", recipe, runs) == []
    assert ran == ["narrow 2", "wide 3", "narrow 3"]
    assert "6 runs, 3 of them finished before" in capsys.readouterr().out


def test_one_process_at_a_time(checkout: Path) -> None:
    copy = WorkingCopy(checkout / EXPERIMENTS / "small")
    with (
        copy.alone(),
        pytest.raises(UserError, match=rf"^small is already running here \(process {os.getpid()}"),
        WorkingCopy(copy.root).alone(),
    ):
        pass
    with copy.alone():
        pass


def test_a_working_copy_follows_the_checkout_and_keeps_its_own_work(
    checkout: Path, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / ".dvc", checkout / ".dvc", ignore=lambda *_: ["tmp", "cache"])
    shutil.copy(ROOT / ".dvcignore", checkout)
    copy = WorkingCopy(checkout / EXPERIMENTS / "small")
    copy.refresh(checkout, [Path("data/photos")])
    assert (copy.root / "stages/run").stat().st_mode & 0o100
    assert len(list((copy.root / "data/photos").glob("*.jpg"))) > 10
    assert str(checkout / ".dvc/cache") in (copy.root / ".dvc/config.local").read_text()
    kept = copy.root / "tvqrap/networks/codebook.py"
    before = kept.stat().st_mtime_ns
    (copy.root / "models/tokenizer").mkdir(parents=True)
    (checkout / "tvqrap/objectives/image_loss.py").write_text("# other")
    (checkout / "tvqrap/networks/blocks.py").unlink()
    copy.refresh(checkout, [Path("data/photos")])
    assert (copy.root / "tvqrap/objectives/image_loss.py").read_text() == "# other"
    assert not (copy.root / "tvqrap/networks/blocks.py").exists()
    assert kept.stat().st_mtime_ns == before
    assert (copy.root / "models/tokenizer").is_dir()


def test_what_it_runs_ends_with_it(tmp_path: Path) -> None:
    """The runner is killed; the process that it waits for gets SIGTERM."""
    (tmp_path / "sleeper.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))\n"
        "time.sleep(120)\n"
    )
    script = (
        "from pathlib import Path\n"
        "from stages.experiments.working_copy import WorkingCopy\n"
        f"WorkingCopy(Path({str(tmp_path)!r})).run('sleeper')\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    try:
        pid = tmp_path / "pid"
        deadline = time.monotonic() + 60
        while not (pid.exists() and pid.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        while Path(f"/proc/{pid.read_text()}").exists():
            assert time.monotonic() < deadline, "it runs on alone"
            time.sleep(0.05)
    finally:
        runner.kill()


def test_it_waits_for_the_stage_of_a_killed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = WorkingCopy(tmp_path / "copy")
    (copy.root / ".scratch").mkdir(parents=True)
    copy.wait_for_stages()
    assert capsys.readouterr().out == ""
    locks = copy.root / ".scratch"
    (locks / "make_pairs.lock").write_text("1 on a host that is gone")
    script = (
        "import sys, time; from pathlib import Path; from pipeline.storage.lock import file_lock\n"
        "with file_lock(Path(sys.argv[1]), 'stage'):\n"
        "    time.sleep(2)\n"
    )
    lock = locks / "train_tokenizer.lock"
    saving = subprocess.Popen([sys.executable, "-c", script, str(lock)], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not lock.exists() or not lock.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    copy.wait_for_stages()
    assert saving.wait(timeout=10) == 0
    assert capsys.readouterr().out == (
        f"copy: waiting for train_tokenizer (process {saving.pid} on {socket.gethostname()}) of a "
        "run that was stopped to save its work\n"
    )


def test_what_went_wrong_is_the_stages_own_line(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(
        "print('Running stage')\n"
        "print('train_tokenizer: params.yaml: codebook is 1')\n"
        "print('ERROR: failed to reproduce')\n"
        "raise SystemExit(1)\n"
    )
    copy = WorkingCopy(tmp_path)
    with pytest.raises(UserError, match=r"^train_tokenizer: params\.yaml: codebook is 1 \(see "):
        copy.run("failing")
    assert "Running stage" in copy.log.read_text()


SLOW = """
title: The real road
paper: none
profile: smoke
target: evaluate
seeds: [1]
points:
  without-rap: {rap.steps: 0}
  with-rap: {rap.steps: 2}
models: [tokenizer, rap]
scores: [psnr_y, fsim]
"""


@pytest.mark.slow
def test_the_real_road_is_resumed_and_shared(tmp_path: Path) -> None:
    """Killed in the middle of a stage it goes on from there; points share what they can."""
    checkout = make_checkout(tmp_path)
    (tmp_path / "road.yaml").write_text(SLOW)
    (tmp_path / "quick.yaml").write_text(SMALL)
    command = [sys.executable, "-m", "stages.experiments", "run", "road.yaml"]
    log = tmp_path / EXPERIMENTS / "road.log"
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path))
    try:
        deadline = time.monotonic() + 240
        while not list(tmp_path.glob(f"{EXPERIMENTS}/road/.scratch/train_tokenizer-*/step-*.pt")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    checkout.run(*command)
    said = log.read_text()
    assert "train_tokenizer: resumes after step" in said
    started = [line.split("'")[1] for line in said.splitlines() if line.startswith("Running")]
    assert started == [*STAGES[:2], *STAGES[1:], *STAGES[4:]], "the second point starts at RAP"
    again = checkout.run(*command).stdout
    assert "2 runs, 2 of them finished before" in again
    table = checkout.run(sys.executable, "-m", "stages.experiments", "collect", "road.yaml").stdout
    assert "missing" not in table and "| rap |" in table
    # A tokenizer alone, from the same pairs in another working copy; its scores are those of the
    # whole road.
    checkout.run(
        sys.executable, "-m", "stages.experiments", "run", "quick.yaml", "--points", "wide",
        "--seeds", "1",
    )  # fmt: skip
    quick = (tmp_path / EXPERIMENTS / "quick.log").read_text()
    assert "Stage 'train_tokenizer' is cached" in quick and "Running stage" not in quick
    scores = [
        json.loads(path.read_text())["scores"]["tokenizer"]["psnr_y"]["mean"]
        for path in tmp_path.glob(f"{EXPERIMENTS}/results/*/{SCORES}")
    ]
    assert len(scores) == 3
    assert max(scores) - min(scores) < 0.01
    status = checkout.run("git", "status", "--short", "params.yaml", "dvc.lock").stdout
    assert status == "", "the checkout's own params and lock are as they were"
