"""`tvqrap-cli ui`: its options, its start and its end."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.support.commands import run
from tests.support.paths import ROOT


def test_a_host_that_can_be_no_name_is_one_line() -> None:
    result = run("ui", "--host", "..")
    assert result.exit_code == 2
    assert result.output == "error: --host ..: found no name of a host\n"


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("ui", "--port", port)
    assert result.exit_code == 2
    assert result.output.startswith(f"error: --port {port} of 127.0.0.1: cannot listen there (")
    assert len(result.output.splitlines()) == 1


def test_without_the_extra_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run("ui")
    assert result.exit_code == 1
    assert result.output == "error: tvqrap-cli ui needs the extra ui (pip install 'tvqrap[ui]')\n"


def test_a_model_that_is_not_there_is_one_line() -> None:
    result = run("ui", "--port", "0", "--model", "nothing")
    assert result.exit_code == 1 and "nothing: no such file or folder" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("host", [None, "127.0.0.1"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_and_leaves_nothing(
    tmp_path: Path, host: str | None, number: signal.Signals
) -> None:
    words = [sys.executable, "-m", "tvqrap", "ui", "--port", "0", "--device", "cpu"]
    words += [] if host is None else ["--host", host]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    left_behind = tmp_path / ".tvqrap.00000000.1.00000000.tmp"
    left_behind.mkdir()
    os.utime(left_behind, (0, 0))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        pattern = r"http://127\.0\.0\.1:\d+/" + ("" if host is None else r"\?token=[\w-]{32}")
        assert re.fullmatch(pattern, url)
        (folder,) = tmp_path.iterdir()
        assert folder != left_behind and folder.stat().st_mode & 0o777 == 0o700
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert b"<!doctype html>" in opener.open(url).read()
        if host is not None:
            with pytest.raises(HTTPError, match="403"):
                urllib.request.urlopen(url.partition("?")[0])
        # A photograph is being upscaled, which takes longer than the patience.
        photo = (ROOT / "data/photos/chelsea.jpg").read_bytes()
        base = url.partition("?")[0]
        opener.open(urllib.request.Request(f"{base}api/photos?name=a.jpg", photo, method="POST"))
        process.send_signal(number)
        code = process.wait(20)
    assert code == (0 if number == signal.SIGINT else 128 + number)
    assert list(tmp_path.iterdir()) == []
