"""The copy of the checkout in which the points of a recipe are run."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.experiments.results import (
    EXPERIMENTS,
)
from stages.experiments.working_copy import WorkingCopy
from tests.support.paths import ROOT
from tvqrap.runtime.errors import UserError


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
    (checkout / "models/teacher.pth").touch()
    copy.refresh(checkout, [Path("data/photos"), Path("models/teacher.pth"), Path("stages/run")])
    assert (copy.root / "models/teacher.pth").resolve() == checkout / "models/teacher.pth"
    assert (copy.root / "stages/run").stat().st_mode & 0o100
    assert len(list((copy.root / "data/photos").glob("*.jpg"))) > 10
    assert str(checkout / ".dvc/cache") in (copy.root / ".dvc/config.local").read_text()
    kept = copy.root / "tvqrap/networks/codebook.py"
    before = kept.stat().st_mtime_ns
    (copy.root / "models/tokenizer").mkdir(parents=True)
    (checkout / "tvqrap/objectives/image_losses/image_loss.py").write_text("# other")
    (checkout / "tvqrap/networks/blocks.py").unlink()
    copy.refresh(checkout, [Path("data/photos")])
    assert (copy.root / "tvqrap/objectives/image_losses/image_loss.py").read_text() == "# other"
    assert not (copy.root / "tvqrap/networks/blocks.py").exists()
    assert kept.stat().st_mtime_ns == before
    assert (copy.root / "models/tokenizer").is_dir()


def test_links_of_earlier_runs_give_way(checkout: Path) -> None:
    """A table of licences alone, then the folder that it lies in, then both, then the table."""
    shutil.copytree(ROOT / ".dvc", checkout / ".dvc", ignore=lambda *_: ["tmp", "cache"])
    shutil.copy(ROOT / ".dvcignore", checkout)
    copy = WorkingCopy(checkout / EXPERIMENTS / "small")
    folder, table = Path("data/photos"), Path("data/photos/licences.csv")
    for given in ([table], [folder], [table, folder], [table]):
        copy.refresh(checkout, given)
        for path in given:
            assert (copy.root / path).resolve() == (checkout / path).resolve()
    assert (ROOT / table).is_file() and not (ROOT / table).is_symlink()
    other = checkout / "other"
    other.mkdir()
    (copy.root / folder).unlink()
    (copy.root / folder).symlink_to(other)  # a folder that is given no more
    copy.refresh(checkout, [table])
    assert (copy.root / table).resolve() == (checkout / table).resolve()
    assert not list(other.iterdir())


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
