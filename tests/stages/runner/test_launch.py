"""Workers are started, stopped and ended together."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from stages.runner import launch


def start(script: str, count: int = 2) -> int:
    """Runs a script as workers that know `rank`."""
    before = "import os, signal, sys, time\nrank = int(os.environ['RANK'])\n"
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return launch.start([sys.executable, "-c", before + script], count)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def test_each_worker_is_told_its_place(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = (
        "names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')\n"
        "open(str(rank), 'w').write(' '.join(os.environ[name] for name in names))\n"
        "print('said by', rank)"
    )
    assert start(told, 3) == 0
    places = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
    assert [place[:4] for place in places] == [[str(n), str(n), "3", "127.0.0.1"] for n in range(3)]
    assert len({place[4] for place in places}) == 1
    assert capfd.readouterr().out == "said by 0\n", "the first worker speaks for all"


def test_one_that_fails_ends_all_and_is_quoted(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "FAILURE_SECONDS", 0.2)
    assert start("if rank == 1: sys.exit('no luck')\ntime.sleep(60)") == 1
    assert capfd.readouterr().err == "worker 1: no luck\n"
    told = "if rank == 2: sys.exit('the cause')\nsys.exit('the other workers are gone (x)')"
    assert start("time.sleep(0.5)\n" + told, 3) == 1
    said = capfd.readouterr().err
    assert "worker 2: the cause" in said and "worker 1" not in said
    assert start("if rank == 1: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)") == 137
    assert "worker 1: ended with code -9" in capfd.readouterr().err


def test_a_signal_reaches_all_once_and_the_first_has_time_to_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when dvc or a terminal ends the stage; a second signal would cut the saving short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "FAILURE_SECONDS", 0.2)

    def end_when_ready() -> None:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("ready*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    ending = threading.Thread(target=end_when_ready)
    ending.start()
    code = start(
        "seen = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: seen.append(1))\n"
        "open(f'ready{rank}', 'w')\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(1 if rank == 0 else 0)\n"
        "open(f'saved{rank}', 'w').write(str(len(seen)))\n"
        "sys.exit(143)"
    )
    ending.join()
    assert code == 143
    assert [(tmp_path / f"saved{rank}").read_text() for rank in range(2)] == ["1", "1"]
