"""Photographs and the names of their outputs."""

from pathlib import Path

import pytest

from tvqrap.upscaling.jobs import FoundJobs, Output, find_jobs


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touched(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def beside(suffix: str) -> FoundJobs:
    return find_jobs([Path("in")], Output(suffix=suffix))


def names(found: FoundJobs) -> list[tuple[str, str]]:
    return [(job.source.name, job.target.name) for job in found.jobs]


def test_outputs_that_keep_an_ending_are_no_photographs_of_the_next_call() -> None:
    touched("in/a.bmp", "in/a.gif", "in/a_x4.bmp.png", "in/a_x4.gif.png", "in/a_90x60.gif.2.png")
    for suffix in ("_x4", "_x2", "_x2.5", "_90x60"):
        found = beside(suffix)
        assert names(found) == [
            ("a.bmp", f"a{suffix}.bmp.png"),
            ("a.gif", f"a{suffix}.gif.png"),
        ]
        assert found.notes == ["passed over: 3 outputs of the photographs beside"]
    Path("in/a.bmp").unlink()
    assert names(beside("_x4")) == [("a.gif", "a_x4.png")]


def test_names_that_only_look_like_those_of_outputs() -> None:
    touched("in/a.bmp", "in/a_x4.final.png", "in/b_x4.bmp.png", "in/a_x4b.png", "in/a.2.png")
    assert len(beside("_x2").jobs) == 5


@pytest.mark.parametrize("output", [Output(Path("out"), folder=True), Output(suffix="_x4")])
def test_links_in_a_circle_are_left_to_the_reader(output: Output) -> None:
    touched("a.png")
    Path("l.png").symlink_to("l.png")
    Path("round").symlink_to("round")
    given = [Path("l.png"), Path("a.png"), Path("round/b.png")]
    assert [job.source for job in find_jobs(given, output).jobs] == given
