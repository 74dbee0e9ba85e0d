"""`tvqrap-cli metrics`, from the outside."""

import json
from pathlib import Path

import pytest
import torch

from tests.support.commands import run


def test_usable_metrics_and_the_reasons_of_others(tmp_path: Path) -> None:
    listed = json.loads(run("metrics", "--json", "--weights", tmp_path).output)
    assert listed["fsim"]["usable"] and listed["stlpips_vgg"]["usable"]
    assert not listed["musiq"]["usable"]
    assert "musiq_koniq_ckpt-e95806b9.pth" in listed["musiq"]["reason"]
    (tmp_path / "niqe_modelparameters.mat").touch()
    shown = run("metrics", "niqe", "lpips", "--weights", tmp_path)
    assert shown.exit_code == 0 and "--fetch lpips:" in shown.output
    needs = "lpips: needs LPIPS_v0.1_alex-df73285e.pth and alexnet-owt-7be5be79.pth\n"
    assert needs in shown.output and "not usable" in shown.output
    (tmp_path / "musiq_koniq_ckpt-e95806b9.pth").write_bytes(b"something else")
    wrong = run("metrics", "musiq", "--weights", tmp_path).output
    assert "expected e95806b9..." in wrong and "--fetch" not in wrong
    assert run("metrics", "nothing").exit_code == 2


def test_fetching_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, target: str) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    result = run("metrics", "niqe", "--fetch", "--weights", tmp_path / "new")
    assert result.exit_code == 1 and "no route to host" in result.output
    assert not list((tmp_path / "new").iterdir())
