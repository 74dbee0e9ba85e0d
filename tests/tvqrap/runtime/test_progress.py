"""Progress of long work, as lines and as a bar."""

import io
import sys

import pytest

from tvqrap.runtime.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_skipped_units_are_done_and_do_not_count_towards_the_rate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress("upscale", total=25, unit="kpixel") as advance:
        advance(0, "broken.png", skipped=25)
    assert capsys.readouterr().err == "upscale: 25/25 kpixel, 0.00/s, 0:00 left, broken.png\n"


def test_names_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress("[red]title", total=2, unit="image") as advance:
        advance(2, "[red]a.png\x1b[2J")
    assert r"[red]a.png\x1b[2J" in capsys.readouterr().err
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    with progress("[red]title", total=2, unit="image") as advance:
        advance(2, "[red]a.png\x1b[2J")
    shown = terminal.getvalue()
    assert "[red]title" in shown and r"[red]a.png\x1b[2J" in shown and "\x1b[2J" not in shown
