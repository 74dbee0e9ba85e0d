"""A stage reads declared params only, runs alone, and has a scratch folder by fingerprint."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.params import load_params
from stages.runner.declared import DeclaredParams, UndeclaredParam
from stages.runner.stage import SCRATCH, Stage, run_alone, run_stage
from tests.support.paths import ROOT
from tvqrap.runtime.errors import UserError

DVC_YAML = """
stages:
  sample:
    cmd: stages/run sample
    params:
    - seed
    - rap
    deps:
    - data
    - ${init}
    outs:
    - out
    metrics:
    - metrics:
        cache: false
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    params = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params.replace("tvqrap/weights", "models/none"))
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "data/inner").mkdir(parents=True)
    (tmp_path / "data/inner/file").write_text("1")
    (tmp_path / "models/none").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scratch_of() -> Path:
    """Runs the stage and returns the scratch folder it was given."""
    seen: list[Stage] = []
    run_alone("sample", seen.append)
    return seen[0].scratch


def test_only_declared_params_can_be_read() -> None:
    guarded = DeclaredParams(load_params(ROOT / "params.yaml"), ["seed", "width"])
    assert guarded.seed == 1
    for name in ("rap", "architecture"):
        with pytest.raises(UndeclaredParam):
            getattr(guarded, name)


def test_the_depth_of_the_predictor_is_no_matter_of_the_tokenizer() -> None:
    keys = ["width", "codebook", "texture", "structure", "structure_width"]
    guarded = DeclaredParams(load_params(ROOT / "params.yaml"), keys)
    assert guarded.tokenizer_architecture.width == guarded.width
    with pytest.raises(UndeclaredParam, match="swin_blocks"):
        _ = guarded.architecture


def test_the_scratch_folder_follows_declared_params_and_files_alone(checkout: Path) -> None:
    first = scratch_of()
    assert scratch_of() == first
    params = checkout / "params.yaml"
    params.write_text(params.read_text().replace("codebook: 512", "codebook: 256"))
    assert scratch_of() == first, "codebook is not declared"
    params.write_text(params.read_text().replace("seed: 1\n", "seed: 2\n", 1))
    second = scratch_of()
    assert second != first
    (checkout / "data/inner/file").write_text("2")
    third = scratch_of()
    assert third not in (first, second)
    (checkout / "models/none/README.md").write_text("what it is")
    assert scratch_of() == third
    (checkout / "models/none/more").write_text("")
    assert scratch_of() not in (first, second, third)


@pytest.mark.parametrize(
    "inside", ["out", "out/store", "more/../metrics", ".scratch", ".scratch/s"]
)
def test_a_storage_that_would_be_emptied_is_refused(checkout: Path, inside: str) -> None:
    """In an output of any stage, or among unfinished work."""

    def work(stage: Stage) -> None:
        with pytest.raises(UserError, match=f"^storage {checkout / inside}: lies in"):
            stage.work(str(checkout / inside))
        assert stage.work(str(checkout / "outside")) == checkout / "outside" / stage.scratch.name
        assert str(stage.work("memory://out")) == f"memory://out/{stage.scratch.name}"

    run_alone("sample", work)


def test_scratch_survives_a_failure_and_goes_with_success(checkout: Path) -> None:
    def fail(stage: Stage) -> None:
        (stage.scratch / "half").write_text("")
        raise UserError("no luck")

    with pytest.raises(SystemExit) as caught:
        run_stage("sample", fail)
    assert caught.value.code == 1
    (half,) = SCRATCH.glob("sample-*/half")
    run_alone("sample", lambda stage: (stage.scratch / "half").rename("found"))  # type: ignore[arg-type]
    assert Path("found").exists()
    assert not half.parent.exists()


def test_weights_that_a_later_stage_lacks_are_refused_before_the_first(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TVQRAP_WEIGHTS", str(checkout / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(checkout / "cache"))
    params = checkout / "params.yaml"
    params.write_text(params.read_text().replace("  - grid\n", "  - grid\n  - niqe\n"))
    ran: list[Stage] = []
    with pytest.raises(SystemExit) as caught:
        run_stage("sample", ran.append)
    assert caught.value.code == 1 and not ran and not SCRATCH.exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "sample: weights are missing: niqe needs niqe_modelparameters.mat; `tvqrap-cli metrics "
        "--fetch niqe` fetches those of evaluation.metrics, or take these names out of it"
    )
    (checkout / "weights").mkdir()
    (checkout / "weights/niqe_modelparameters.mat").touch()
    run_alone("sample", ran.append)
    assert ran


def test_a_run_that_waited_for_an_equal_one_makes_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(stage: Stage) -> None:
        ran.append(stage.fingerprint)
        for out in stage.own_outs:
            out.write_text("made")

    def second() -> None:
        run_alone("sample", make)

    def first(stage: Stage) -> None:
        make(stage)
        waiting.start()
        waiting.join(1)

    ran: list[str] = []
    waiting = threading.Thread(target=second)
    run_alone("sample", first)
    waiting.join()
    assert len(ran) == 1
    assert "sample: made by another run at the same time" in capsys.readouterr().out
    run_alone("sample", make)
    assert len(ran) == 2, "asked for by itself, it runs again"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("sample: step 3: mse is nan", "sample: step 3: mse is nan\n"),
        ("a\x1b[2J.png: not an image", "sample: a\\x1b[2J.png: not an image\n"),
    ],
)
def test_a_message_names_the_stage_once_and_moves_no_cursor(
    checkout: Path, message: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(stage: Stage) -> None:
        raise UserError(message)

    with pytest.raises(SystemExit):
        run_stage("sample", fail)
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("idle", [1, 8])
def test_a_busy_machine_is_named_with_the_param(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, idle: int
) -> None:
    monkeypatch.setattr("tvqrap.runtime.cores.idle_cores", lambda: idle)
    declared = checkout / "dvc.yaml"
    declared.write_text(declared.read_text().replace("- seed", "- compute"))
    run_alone("sample", lambda stage: None)
    said = capsys.readouterr().err
    assert ("sample: the machine is busy: 1 of" in said) == (idle == 1)
    assert ("compute.threads sets their number" in said) == (idle == 1)


def test_a_second_run_is_refused_and_names_the_first(checkout: Path) -> None:
    def again(stage: Stage) -> None:
        script = (
            "from stages.runner import stage; stage.LOCK_SECONDS = 0.1; "
            "stage.run_stage('sample', lambda stage: None)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.strip() == (
            f"sample is already running here (process {os.getpid()} on "
            f"{socket.gethostname()}); "
            "wait for it or stop it first"
        )

    run_alone("sample", again)


def wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


def test_it_stops_when_dvc_is_gone(checkout: Path, tmp_path: Path) -> None:
    """A process called dvc starts the stage through a shell and is killed; the stage ends."""
    stage = tmp_path / "stage.py"
    stage.write_text(
        "import sys, time, os\n"
        "from pathlib import Path\n"
        "from stages.runner.stage import run_stage\n"
        "def body(stage):\n"
        "    Path('pid').write_text(str(os.getpid()))\n"
        "    time.sleep(120)\n"
        "run_stage('sample', body)\n"
    )
    dvc = tmp_path / "dvc"
    dvc.write_text(
        f"import subprocess\nsubprocess.run(['sh', '-c', '{sys.executable} {stage}; true'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(dvc)], env=environment)
    try:
        pid = Path("pid")
        wait_until(lambda: pid.exists() and pid.read_text() != "", "the stage began")
        process.send_signal(signal.SIGKILL)
        process.wait()
        gone = Path(f"/proc/{pid.read_text()}")
        wait_until(lambda: not gone.exists(), "the stage ended with its dvc")
        assert not gone.exists()
    finally:
        process.kill()


def test_a_signal_to_all_at_once_is_one_signal(checkout: Path, tmp_path: Path) -> None:
    """Batch systems end dvc and its stage together: the step is finished and saved."""
    stage = tmp_path / "stage.py"
    stage.write_text(
        "import time\n"
        "from pathlib import Path\n"
        "from stages.runner.stage import run_stage\n"
        "from tvqrap.runtime.signals import stop_between_steps\n"
        "def body(stage):\n"
        "    with stop_between_steps() as request:\n"
        "        Path('began').touch()\n"
        "        ends = time.monotonic() + 4\n"  # a long step
        "        while time.monotonic() < ends:\n"
        "            time.sleep(0.1)\n"
        "        Path('saved').write_text(str(request.signal_number))\n"
        "run_stage('sample', body)\n"
    )
    dvc = tmp_path / "dvc"
    dvc.write_text(f"import subprocess\nsubprocess.run(['{sys.executable}', '{stage}'])\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(dvc)], env=environment, start_new_session=True)
    try:
        wait_until(Path("began").exists, "the step began")
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        wait_until(Path("saved").exists, "the step was finished")
        assert Path("saved").read_text() == str(int(signal.SIGTERM))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
