"""Claims: who may write an output."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tvqrap.upscaling import claims
from tvqrap.upscaling.claims import claim, in_turn

HOLDS = """
import sys, time
from pathlib import Path
from tvqrap.upscaling.claims import claim
with claim(Path(sys.argv[1])) as claimed:
    print(claimed, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has claimed `out/a.png`."""
    words = [sys.executable, "-c", HOLDS, str(tmp_path / "out/a.png")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()


def test_a_claim_ends_with_its_process(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    target = tmp_path / "out/a.png"
    for spelled in (target, target.with_name("A.PNG")):
        with claim(spelled) as claimed:
            assert not claimed
    with claim(target.with_name("b.png")) as claimed:
        assert claimed
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with claim(target) as claimed:
        assert claimed
    assert list(target.parent.iterdir()) == []


def test_disks_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lockless:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def acquire(self) -> None:
            raise OSError(37, "No locks available")

    monkeypatch.setattr(claims, "FileLock", Lockless)
    with claim(tmp_path / "a.png") as claimed:
        assert claimed


def test_claimed_work_comes_after_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims.time, "sleep", lambda seconds: waits.append(seconds))
    waits: list[float] = []
    tries: list[str] = []

    def run(name: str) -> str | None:
        tries.append(name)
        return None if name == "a" and len(tries) < 5 else name.upper()

    assert list(in_turn(["a", "b", "c"], run)) == [("b", "B"), ("c", "C"), ("a", "A")]
    assert tries == ["a", "b", "c", "a", "a"] and len(waits) == 1
