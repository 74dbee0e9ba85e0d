"""`tvqrap-cli upscale`: several processes on one folder, and folders that are watched."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.upscaling import image, opened
from tvqrap.upscaling import watch

SLOW = """
import signal, sys, time
from tests.support import upscaling
from tvqrap.upscaling.upscaler import Upscaler

def slow(self, lr, seen=None):
    # A file for each photograph that is begun, named by its width.
    open(f"begun/{lr.shape[1]}-{time.monotonic_ns()}", "x").close()
    time.sleep(0.5)
    yield from upscaling.repeated(self, lr, seen)

Upscaler.rows = slow
# A shell starts what runs in its background with SIGINT ignored, and so all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
from tvqrap.cli.main import app
app(sys.argv[1:])
"""


@pytest.fixture
def start(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command in a folder of its own; half a second stands for the network's work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    Path("begun").mkdir()
    started = []

    def call(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SLOW, "upscale", *words, "--model", str(tiny_model)]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.wait()


def begun() -> list[str]:
    """Widths of the photographs that were begun."""
    return sorted(path.name.partition("-")[0] for path in Path("begun").iterdir())


def until(true: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_processes_share_a_folder(start: Any) -> None:
    widths = [str(width) for width in range(10, 18)]
    for width in widths:
        image(f"in/{width}.png", int(width))
    processes = [start("in", "-o", "out") for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert begun() == widths
    assert sorted(path.name for path in Path("out").iterdir()) == [f"{w}.png" for w in widths]
    for width in widths:
        assert opened(f"out/{width}.png").size == (4 * int(width), 12)


@pytest.mark.slow
def test_the_photograph_of_a_killed_process_is_done_by_another(start: Any) -> None:
    for width in (10, 11, 12):
        image(f"in/{width}.png", width)
    first = start("in", "-o", "out")
    until(begun)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = start("in", "-o", "out")
    _, errors = second.communicate(timeout=120)
    assert errors.splitlines()[-1] == "3 upscaled"
    assert sorted(path.name for path in Path("out").iterdir()) == ["10.png", "11.png", "12.png"]


@pytest.mark.slow
def test_two_processes_watch_one_folder(start: Any) -> None:
    Path("in").mkdir()
    processes = [start("in", "-o", "out", "--watch") for _ in range(2)]
    for process in processes:
        lines = iter(process.stderr.readline, "")
        assert next(line for line in lines if "watching" in line)
    Path("in/bad.png").write_text("no image")
    for width in (10, 11, 12, 13):
        image(f"in/{width}.png", width)
    until(lambda: len(list(Path().glob("out/*.png"))) == 4)
    processes[0].send_signal(signal.SIGKILL)
    image("in/14.png", 14)
    until(Path("out/14.png").exists)
    processes[1].send_signal(signal.SIGINT)
    _, errors = processes[1].communicate(timeout=60)
    assert processes[1].returncode == 0
    assert "error: in/bad.png: not an image of a known format\n" in errors
    assert re.fullmatch(r"\d upscaled, \d there already, 1 failed", errors.splitlines()[-1])
    assert begun() == ["10", "11", "12", "13", "14"]


@pytest.mark.usefixtures("quick")
class TestWatch:
    def test_until_ctrl_c(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        image("in/a.png")
        Path("in/bad.png").write_text("no image")

        def sleep(seconds: float) -> None:
            if seconds != watch.SECONDS_BETWEEN_LOOKS:  # of the measurement of idle cores
                return
            looks.append(seconds)
            if len(looks) == 2:
                assert opened("out/a.png").size == (20, 12)
                image("in/deeper/b.jpg", 9)
            if len(looks) == 3:
                image("in/deeper/b.jpg", 8)
            if len(looks) == 4:
                assert not Path("out/deeper").exists()
            if len(looks) == 5:
                raise KeyboardInterrupt

        looks: list[float] = []
        monkeypatch.setattr("time.sleep", sleep)
        result = run("in", "-o", "out", "--watch")
        assert result.exit_code == 0, result.output
        assert opened("out/deeper/b.jpg").size == (32, 12)
        lines = result.output.splitlines()
        assert lines[-1] == "2 upscaled, 1 failed"
        assert lines.count("error: in/bad.png: not an image of a known format") == 1
        assert "out/a.png: upscaled" in lines

    def test_an_output_that_is_a_link_in_a_circle(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def sleep(seconds: float) -> None:
            if seconds == watch.SECONDS_BETWEEN_LOOKS:
                looks.append(seconds)
                if len(looks) == 2:
                    raise KeyboardInterrupt

        looks: list[float] = []
        monkeypatch.setattr("time.sleep", sleep)
        image("in/a.png")
        Path("round").symlink_to("round")
        result = run("in", "-o", "round", "--watch")
        assert result.exit_code == 0, result.output
        assert "error: round/a.png: cannot be written (" in result.output

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("in",), "--watch: expected -o with another folder"),
            (("in", "-o", "in", "--suffix", "_large"), "--watch: expected -o with another folder"),
            (("in/a.png", "-o", "out"), "--watch: in/a.png is no folder"),
            (("in", "-o", "out", "--dry-run"), "--watch has no meaning with --dry-run"),
            (("in", "-o", "out.png"), "out.png: is the name of an image, expected a folder"),
        ],
    )
    def test_wrong_use(self, run: Any, words: tuple[str, ...], message: str) -> None:
        image("in/a.png")
        result = run(*words, "--watch")
        assert result.exit_code == 2 and message in result.output
        assert len(result.output.splitlines()) == 1
