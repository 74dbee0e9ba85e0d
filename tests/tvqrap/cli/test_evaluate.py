"""`tvqrap-cli evaluate`, from the outside."""

import csv
import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import save_file

from pipeline.shards.codec import encode_png
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, write_shard
from tests.support.commands import run
from tests.support.pairs import texture
from tvqrap.comparison import methods
from tvqrap.evaluation import run as run_module
from tvqrap.runtime.device import select_device
from tvqrap.runtime.hardware import device_name


def scores(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "scores.json").read_text())
    return found


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for seed, name in enumerate(("one", "sub/two")):
        hr = texture(seed, 64, 64)
        save(tmp_path / "gt" / f"{name}.png", hr)
        save(tmp_path / "lq" / f"{name}.png", np.asarray(Image.fromarray(hr).reduce(4)))
        save(tmp_path / "theirs" / f"{name}.png", hr)
    return tmp_path


def evaluate(folders: Path, *models: object, lq: bool = True, metrics: str = "psnr_y") -> Result:
    given = ["--lq", folders / "lq"] if lq else []
    out = ["-o", folders / "out", "--metrics", metrics]
    return run("evaluate", *models, "--gt", folders / "gt", *given, *out)


class TestEvaluate:
    def test_all_kinds_of_models_in_one_run(self, folders: Path, model: Path) -> None:
        from spandrel.architectures.ESRGAN import ESRGAN

        other = folders / "esrgan.safetensors"
        save_file(ESRGAN(num_filters=8, num_blocks=1, scale=4).state_dict(), other)
        models = ["bicubic", "plain=lanczos", model, other, folders / "theirs"]
        result = evaluate(folders, *models, metrics="psnr_y,gmsd")
        assert result.exit_code == 0, result.output
        out = folders / "out"
        means = json.loads((out / "metrics.json").read_text())
        assert list(means) == ["bicubic", "plain", "tiny", "esrgan.safetensors", "theirs"]
        assert means["theirs"]["psnr_y"] > 70 > means["bicubic"]["psnr_y"]
        models_said = scores(out)["protocol"]["models"]
        assert len(models_said["tiny"]["fingerprint"]) == 64
        assert models_said["tiny"]["tiling"] is None
        for name in ("tiny", "esrgan.safetensors"):
            assert models_said[name]["device"] == device_name(select_device("auto"))
        assert models_said["theirs"]["kind"] == "finished images"
        assert models_said["esrgan.safetensors"]["kind"] == "spandrel ESRGAN"
        assert (out / "pictures" / "sheet.png").is_file()
        assert "esrgan.safetensors" in (out / "report.html").read_text()
        assert not list(out.glob(".*"))
        assert "--overwrite" in evaluate(folders, "bicubic").output

    def test_pair_shards(self, tmp_path: Path, model: Path) -> None:
        folder = tmp_path / "pairs"
        folder.mkdir()
        samples = []
        for seed in range(3):
            hr = texture(seed, 64, 64)
            members = {
                "hr.png": encode_png(hr),
                "lr0.png": encode_png(np.asarray(Image.fromarray(hr).reduce(4))),
                "json": json.dumps({"photo": f"p{seed // 2}.jpg"}).encode(),
            }
            samples.append(Sample(f"p_{seed:05d}", members))
        del samples[2].members["lr0.png"]
        Manifest("pairs", "test", {}, (write_shard(folder / "000000.tar", samples),)).save(folder)
        out = tmp_path / "out"
        arguments = ["--pairs", folder, "-o", out, "--metrics", "psnr_y"]
        result = run("evaluate", "bicubic", model, *arguments)
        # One of the three has no LR: the others are scored, and the exit code says so.
        assert result.exit_code == 1 and "p_00002" in result.output
        found = scores(out)
        assert found["protocol"]["data"]["pairs"] == Manifest.load(folder).root
        assert found["scores"]["bicubic"]["psnr_y"]["images"] == 2
        assert {failure["image"] for failure in found["failures"]} == {"p_00002"}
        with (out / "per_image.csv").open() as file:
            lines = list(csv.DictReader(file))
        assert [line["photo"] for line in lines[:4]] == ["p0.jpg"] * 4
        write_shard(folder / "000000.tar", samples[:2])  # its manifest is the old one
        result = run("evaluate", "bicubic", *arguments, "--overwrite")
        assert result.exit_code == 1 and "000000.tar: found SHA-256" in result.output

    def test_tiling_of_large_images_is_recorded(self, folders: Path, model: Path) -> None:
        hr = texture(7, 64, 4 * 80)
        save(folders / "gt" / "wide.png", hr)
        save(folders / "lq" / "wide.png", np.asarray(Image.fromarray(hr).reduce(4)))
        arguments = ["--gt", folders / "gt", "--lq", folders / "lq", "-o", folders / "out"]
        result = run("evaluate", model, *arguments, "--metrics", "psnr_y", "--tile", "64")
        assert result.exit_code == 0, result.output
        tiling = scores(folders / "out")["protocol"]["models"]["tiny"]["tiling"]
        assert tiling == {"tile": 64, "overlap": 16, "images": 1}

    def test_tiled_images_do_not_depend_on_the_workers(self, folders: Path, model: Path) -> None:
        """Threads share the network, and no image the statistics of another's tiles."""
        for number, (height, width) in enumerate([(96, 96), (40, 40), (70, 130), (128, 80)]):
            save(folders / "large" / f"{number}.png", texture(20 + number, height, width))
        tables = []
        for workers in (1, 4):
            out = folders / f"out{workers}"
            arguments = ["--lq", folders / "large", "-o", out, "--metrics", "grid"]
            arguments += ["--tile", 64, "--workers", workers]
            assert run("evaluate", model, *arguments).exit_code == 0
            tables.append((out / "per_image.csv").read_bytes())
        assert tables[0] == tables[1]

    def test_a_run_that_was_stopped_continues(
        self, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(5):
            save(folders / "lq" / f"{number}.png", texture(40 + number, 16, 16))
        arguments = ["evaluate", "a=bicubic", "b=bicubic", "--lq", folders / "lq"]
        arguments += ["--metrics", "grid,piqe", "--workers", "1"]
        assert run(*arguments, "-o", folders / "whole").exit_code == 0
        enlarge, made = methods.enlarge, [0]

        def stopped_after(count: int) -> None:
            def counted(lr: np.ndarray, kind: Any) -> np.ndarray:
                made[0] += 1
                if made[0] > count:
                    raise KeyboardInterrupt
                return enlarge(lr, kind)

            made[0] = 0
            monkeypatch.setattr(methods, "enlarge", counted)

        out = folders / "out"
        stopped_after(8)
        first = run(*arguments, "-o", out)
        assert first.exit_code == 130 and "the same command continues from" in first.output
        assert not (out / "metrics.json").exists()
        log = out / "unfinished" / "scored.jsonl"
        done = len(log.read_text().splitlines())
        assert 2 <= done <= 4
        with log.open("a") as file:  # a kill may cut a line short
            file.write('{"number":6,"image":"x","pho')
        refused = run(*arguments, "-o", out, "--tile", "64", "--metrics", "grid")
        assert refused.exit_code == 1 and "holds an unfinished evaluation" in refused.output
        stopped_after(1000)
        assert run(*arguments, "-o", out).exit_code == 0
        assert made[0] == 2 * (7 - done)
        for name in ("metrics.json", "scores.json", "per_image.csv", "report.html"):
            assert (out / name).read_bytes() == (folders / "whole" / name).read_bytes(), name
        assert not (out / "unfinished").exists()

    def test_images_that_failed_are_tried_again(
        self, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: Image.Image, *arguments: Any, **options: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "save", full)
            result = evaluate(folders, "bicubic")
        images = folders / "out" / "unfinished" / "images"
        assert result.exit_code == 1
        assert f"error: {images}" in result.output and "No space left" in result.output
        with monkeypatch.context() as patch:
            patch.setattr(methods, "enlarge", lambda lr, kind: lr)
            patch.setattr(run_module, "write_results", lambda *_, **__: sys.exit(9))
            assert evaluate(folders, "bicubic").exit_code == 9
        assert len((folders / "out/unfinished/scored.jsonl").read_text().splitlines()) == 2
        assert evaluate(folders, "bicubic").exit_code == 0
        assert scores(folders / "out")["failures"] == []

    def test_names_cannot_write_to_the_terminal(self, folders: Path) -> None:
        for name in ("gt", "lq"):
            (folders / name / "bad\x1b[2J.png").write_bytes(b"no image")
        result = evaluate(folders, "bicubic", "+\x1b[31mx=lanczos")
        assert result.exit_code == 1 and "bad\\x1b[2J" in result.output
        assert "\x1b" not in result.output
        assert "\x1b" not in (folders / "out" / "report.html").read_text()

    def test_an_impossible_output_is_refused_before_the_work(
        self, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run_module, "score_cases", lambda *_: pytest.fail("it began"))
        arguments = ["--lq", folders / "lq", "-o", "/proc/nothing/of/the/sort"]
        result = run("evaluate", "bicubic", *arguments)
        assert result.exit_code == 1 and "/proc/nothing" in result.output
        assert len(result.output.strip().splitlines()) <= 2, result.output

    def test_a_model_of_another_ending(self, folders: Path) -> None:
        (folders / "x4.txt").write_text("weights")
        result = evaluate(folders, str(folders / "x4.txt"))
        assert result.exit_code == 1
        assert "x4.txt: expected a file that ends in .pth or .safetensors" in result.output

    def test_an_old_contact_sheet_does_not_stay(self, folders: Path) -> None:
        arguments = ["-o", folders / "out", "--metrics", "grid", "--overwrite"]
        sheet = folders / "out" / "pictures" / "sheet.png"
        assert run("evaluate", "bicubic", "--lq", folders / "lq", *arguments).exit_code == 0
        assert sheet.is_file()
        save(folders / "wide" / "wide.png", texture(8, 12, 400))
        assert run("evaluate", "bicubic", "--lq", folders / "wide", *arguments).exit_code == 0
        assert not sheet.exists()

    def test_lr_alone(self, folders: Path) -> None:
        arguments = ["--lq", folders / "lq", "-o", folders / "out"]
        large = save(folders / "lq" / "one.png", texture(3, 100, 100))
        save(folders / "lq" / "sub" / "two.png", texture(4, 100, 120))
        result = run("evaluate", "bicubic", "lanczos", *arguments)
        assert result.exit_code == 0, result.output
        assert "psnr_y" in result.output and "are left out" in result.output
        means = json.loads((folders / "out" / "metrics.json").read_text())
        assert list(means["bicubic"]) == ["piqe", "grid"]
        asked = run("evaluate", "bicubic", *arguments, "--metrics", "piqe", "--overwrite")
        assert asked.exit_code == 0 and "need HR" not in asked.output
        refused = run("evaluate", "bicubic", *arguments, "--metrics", "psnr_y", "--overwrite")
        assert refused.exit_code == 2 and "need HR" in refused.output
        assert large.is_file()

    def test_realsr(self, folders: Path) -> None:
        for camera in ("Canon", "Nikon"):
            hr = texture(5, 64, 64)
            test = folders / "realsr" / camera / "Test" / "4"
            save(test / f"{camera}_001_HR.png", hr)
            save(test / f"{camera}_001_LR4.png", np.asarray(Image.fromarray(hr).reduce(4)))
        out = ["-o", folders / "out", "--metrics", "psnr_y"]
        result = run("evaluate", "bicubic", "--realsr", folders / "realsr", *out)
        assert result.exit_code == 0, result.output
        assert scores(folders / "out")["protocol"]["data"]["images"] == 2

    def test_bad_input_is_named_and_the_rest_is_scored(self, folders: Path) -> None:
        cut = folders / "theirs" / "one.png"
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        save(cut, noise)
        cut.write_bytes(cut.read_bytes()[:5000])
        clear = Image.open(folders / "theirs" / "sub" / "two.png").convert("RGBA")
        for name in ("gt", "theirs"):
            save(folders / name / "three.png", texture(9, 64, 64))
            save(folders / name / "deep.png", texture(8, 64, 64))
        deep = np.full((64, 64), 300, dtype=np.uint16)
        save(folders / "theirs" / "deep.png", deep)
        clear.putpixel((3, 3), (0, 0, 0, 0))
        clear.save(folders / "theirs" / "sub" / "two.png")
        result = evaluate(folders, folders / "theirs", lq=False)
        assert result.exit_code == 1 and "one.png: cannot be read" in result.output
        assert "two.png: is transparent" in result.output
        found = scores(folders / "out")
        assert {failure["image"] for failure in found["failures"]} == {"one", "sub/two"}
        assert len(found["notes"]) == 1 and "deep.png: 16 bits" in found["notes"][0]
        assert found["scores"]["theirs"]["psnr_y"]["images"] == 2

    def test_links_to_nowhere_and_names_of_other_bytes(self, folders: Path) -> None:
        (folders / "lq" / "one.png").unlink()
        (folders / "lq" / "one.png").symlink_to("nowhere")
        other = os.fsdecode(b"\xfcber.png")
        for name in ("gt", "lq"):
            shutil.copy(folders / "gt" / "sub" / "two.png", folders / name / other)
        with Image.open(folders / "lq" / other) as image:
            image.reduce(4).save(folders / "lq" / other)
        (folders / "gt" / os.fsdecode(b"bad\xfc.png")).write_bytes(b"no image")
        (folders / "lq" / os.fsdecode(b"bad\xfc.png")).write_bytes(b"no image")
        result = evaluate(folders, "bicubic")
        assert result.exit_code == 1 and "bicubic: one: " in result.output
        assert "bad\\xfc.png: " in result.output
        found = scores(folders / "out")
        assert {failure["image"] for failure in found["failures"]} == {"one", "bad\\xfc"}
        assert found["scores"]["bicubic"]["psnr_y"]["images"] == 2
        assert "\\xfcber" in (folders / "out" / "per_image.csv").read_text()

    def test_without_hr_the_metrics_that_need_none_are_computed(self, folders: Path) -> None:
        large = texture(6, 200, 200)
        for name in ("gt", "lq"):
            shutil.rmtree(folders / name)
        save(folders / "lq" / "one.png", np.asarray(Image.fromarray(large).reduce(4)))
        (folders / "gt").mkdir()
        (folders / "gt" / "one.png").write_bytes(b"no image")
        result = evaluate(folders, "bicubic", metrics="psnr_y,ssim_y,gmsd,vif,piqe")
        assert result.exit_code == 1
        assert result.output.count("one.png: ") == 2 and "(4 metrics)" in result.output
        found = scores(folders / "out")
        assert found["scores"]["bicubic"]["piqe"]["images"] == 1
        assert {failure["metric"] for failure in found["failures"]} >= {"psnr_y", "vif"}

    def test_a_model_that_gives_nan_loses_its_images(self, folders: Path) -> None:
        from spandrel.architectures.ESRGAN import ESRGAN

        state = ESRGAN(num_filters=8, num_blocks=1, scale=4).state_dict()
        state["model.0.bias"][0] = torch.nan
        save_file(state, folders / "nan.safetensors")
        result = evaluate(folders, "bicubic", folders / "nan.safetensors")
        assert result.exit_code == 1 and "not finite" in result.output
        means = json.loads((folders / "out" / "metrics.json").read_text())
        assert means["nan.safetensors"]["psnr_y"] is None and means["bicubic"]["psnr_y"] > 10

    def test_a_metric_without_weights_is_missing_with_the_reason(self, folders: Path) -> None:
        (folders / "weights").mkdir()
        arguments = ["--gt", folders / "gt", "--lq", folders / "lq", "-o", folders / "out"]
        more = ["--metrics", "psnr_y,lpips,fid", "--weights", folders / "weights"]
        result = run("evaluate", "bicubic", *arguments, *more)
        assert result.exit_code == 1 and "2 scores are missing" in result.output
        found = scores(folders / "out")
        assert "--fetch lpips" in found["missing"]["lpips"] and found["failures"] == []
        means = json.loads((folders / "out" / "metrics.json").read_text())
        assert means["bicubic"]["lpips"] is None and means["bicubic"]["fid"] is None

    def test_the_extra_that_is_missing_is_named(
        self, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "jinja2", None)
        result = evaluate(folders, "bicubic")
        assert result.exit_code == 1 and "pip install 'tvqrap[evaluation]'" in result.output
        assert len(result.output.splitlines()) == 1

    def test_names_and_sizes_that_do_not_match_are_listed(self, folders: Path) -> None:
        save(folders / "lq" / "one.png", texture(0, 16, 15))
        result = evaluate(folders, "bicubic")
        assert result.exit_code == 1 and "one.png is 15x16, expected 16x16" in result.output
        save(folders / "lq" / "three.png", texture(0, 16, 16))
        (folders / "lq" / "sub" / "two.png").unlink()
        output = evaluate(folders, "bicubic").output
        assert "sub/two is not in" in output and "three is only in" in output
        shutil.rmtree(folders / "lq")
        (folders / "lq").mkdir()
        assert "holds no images" in evaluate(folders, "bicubic").output
        assert not (folders / "out").exists()

    def test_compare(self, folders: Path) -> None:
        for name, model in (("a", "[b]x=bicubic"), ("b", "[b]x=lanczos")):
            out = ["-o", folders / name, "--metrics", "psnr_y"]
            given = ["--gt", folders / "gt", "--lq", folders / "lq"]
            assert run("evaluate", model, *given, *out).exit_code == 0
        files = [folders / name / "scores.json" for name in ("a", "b")]
        result = run("evaluate", "--compare", *files, "-o", folders / "compared.json")
        assert result.exit_code == 0, result.output
        assert "B minus A" in result.output and "PSNR-Y" in result.output
        assert "[b]x" in result.output and "Pillow's bicubic in A" in result.output
        again = run("evaluate", "--compare", *files, "-o", folders / "compared.json")
        assert again.exit_code == 1 and "--overwrite" in again.output
        wrong = run("evaluate", "--compare", *files, "-o", folders)
        assert wrong.exit_code == 1 and "is a folder, expected a name" in wrong.output
        inside = run("evaluate", "--compare", *files, "-o", files[0] / "x" / "y.json")
        assert inside.exit_code == 1 and "scores.json: is a file" in inside.output
        (entry,) = json.loads((folders / "compared.json").read_text())["entries"]
        assert entry["difference"]["mean"] == pytest.approx(entry["second"] - entry["first"])
        changed = scores(folders / "b")
        changed["protocol"]["data"]["gt"] = "other"
        files[1].write_text(json.dumps(changed))
        refused = run("evaluate", "--compare", *files)
        assert refused.exit_code == 1 and "different protocols" in refused.output

    def test_wrong_use(self, folders: Path, model: Path) -> None:
        gt = ["--gt", folders / "gt"]
        for arguments, code, message in (
            (["bicubic", "-o", "x"], 2, "expected one of --pairs"),
            (["bicubic", *gt], 2, "--output is missing"),
            (["-o", "x", *gt], 2, "no models given"),
            (["bicubic", "-o", "x", *gt], 2, "--lq is missing"),
            (["nothing", "-o", "x", *gt], 1, "expected bicubic or lanczos"),
            ([folders / "gt" / "one.png", "-o", "x", *gt, "--lq", folders], 1, "ends in"),
            (["bicubic", "-o", "x", "--pairs", "p", "--metrics", "new"], 2, "'new' is not known"),
            (["bicubic", "bicubic", "-o", "x", "--pairs", "p"], 2, "given twice"),
            (["HR=bicubic", "-o", "x", "--pairs", "p"], 2, "expected another name"),
            ([folders / "theirs", "-o", "x", "--pairs", "p"], 2, "finished images need --gt"),
            (["bicubic", "-o", "x", "--pairs", folders / "gt"], 1, "manifest"),
            (["bicubic", "-o", folders / "gt" / "one.png", *gt], 1, "is a file, expected a folder"),
            ([model, "-o", "x", "--pairs", "p", "--tile", "100"], 2, "multiple of 64"),
            (["bicubic", "-o", "x", "--pairs", "p", "--realsr", "r"], 2, "expected one of"),
            (["bicubic", "--compare", "a", "b"], 2, "takes two results"),
        ):
            result = run("evaluate", *arguments)
            assert result.exit_code == code and message in result.output, result.output
