"""How much memory is free."""

from pathlib import Path

import pytest

from tvqrap.runtime import memory


def group(path: Path, allowed: str, used: int, cached: int) -> Path:
    path.mkdir()
    (path / "memory.max").write_text(f"{allowed}\n")
    (path / "memory.current").write_text(f"{used}\n")
    (path / "memory.stat").write_text(
        f"anon {used - cached}\nfile {cached}\ninactive_file {cached // 4}\n"
        f"active_file {cached - cached // 4}\n"
    )
    return path


def test_files_that_were_read_take_no_memory_from_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_GROUP", group(tmp_path / "group", "100000", 90000, 60000))
    assert memory.free_memory() == 70000
    monkeypatch.setattr(memory, "_GROUP", group(tmp_path / "full", "100000", 130000, 20000))
    assert memory.free_memory() == 0


@pytest.mark.parametrize("allowed", ["max", "no number"])
def test_without_a_limit_it_is_the_machines(
    allowed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_GROUP", group(tmp_path / "group", allowed, 10, 0))
    free = memory.free_memory()
    assert free is not None and free > 10**6
