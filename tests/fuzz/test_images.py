"""Damaged image files, through the opener and the commands that take photographs."""

import collections
import functools
import io
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.sources.scan import scan_photos
from tests.support.fuzzing import Files, Trial, assert_no_fault, command, complaint
from tests.support.image_samples import ENDINGS, image_samples
from tests.support.mutations import damaged, with_checksums
from tests.support.networks import saved_upscaler
from tests.support.pairs import data_settings, texture
from tvqrap.architecture import Architecture
from tvqrap.images.reading.open import read_image
from tvqrap.photo_io.reader import (
    read_header,
    read_photo,
    read_several,
    read_several_header,
)
from tvqrap.runtime.errors import UserError
from tvqrap.upscaling.upscaler import Upscaler

pytestmark = pytest.mark.slow

MAX_PIXELS = 1_000_000
TINY = Architecture(width=0.0625, codebook=16, texture=4, structure=8, swin_blocks=2)


@functools.cache
def samples(ending: str | None = None) -> dict[str, bytes]:
    return {
        name: content
        for name, content in image_samples().items()
        if name.endswith(f".{ending}" if ending else "")
    }


def broken_image(rng: Random, ending: str | None = None) -> tuple[str, bytes]:
    """(name, content) of a damaged image, its PNG chunks with right checksums as often as not."""
    name = rng.choice(list(samples(ending)))
    content = damaged(samples()[name], rng, list(samples(ending).values()))
    if name.endswith(".png") and rng.random() < 0.7:
        content = with_checksums(content)
    if rng.random() < 0.05:  # under the name of another format
        name = rng.choice(["photo.tga", "photo.png", "photo.jpg", "photo.tif"])
    return name, content


def test_the_samples_are_sound(tmp_path: Path) -> None:
    """Damage is found in files that were whole before."""
    for name, content in samples().items():
        path = tmp_path / name
        path.write_bytes(content)
        try:
            read_photo(path)
        except UserError as error:
            assert any(word in name for word in ("F.", "float_rgb", "deep_planes")), error


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_opener(ending: str, tmp_path: Path) -> None:
    def use(given: Path, out: Path) -> None:
        (path,) = given.iterdir()
        header = read_header(path, MAX_PIXELS)
        read = read_photo(path, MAX_PIXELS)
        assert read.photo.pixels.dtype in (np.uint8, np.uint16)
        assert read.photo.pixels.shape == (header.height, header.width, 3)
        if read.photo.alpha is not None:
            assert read.photo.alpha.shape == (header.height, header.width)
        image = read_image(path, MAX_PIXELS)
        assert (image.mode, image.size) == ("RGB", (header.width, header.height))

    def make(rng: Random) -> Files:
        return dict([broken_image(rng, ending)])

    assert_no_fault(Trial(f"image.{ending}", make, use), tmp_path, 400)


@pytest.mark.parametrize("name", sorted(name for name in samples() if name.startswith("frames.")))
def test_frames_and_pages(name: str, tmp_path: Path) -> None:
    def use(given: Path, out: Path) -> None:
        (path,) = given.iterdir()
        header = read_several_header(path, MAX_PIXELS)
        if header is None:
            return
        read = read_several(path, MAX_PIXELS)
        shapes = [one.photo.pixels.shape for one in read.files]
        assert shapes == [(height, width, 3) for width, height in header.sizes]
        assert read.animation is None or len(read.animation.durations) == len(shapes)
        if read.animation is not None:
            assert len({one.photo.alpha is None for one in read.files}) == 1

    def make(rng: Random) -> Files:
        content = damaged(samples()[name], rng, list(samples(name.split(".")[1]).values()))
        return {name: with_checksums(content) if name.endswith(".png") else content}

    assert_no_fault(Trial(name, make, use), tmp_path, 200)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return saved_upscaler(tmp_path_factory.mktemp("models") / "tiny", TINY)


def broken_folder(rng: Random) -> Files:
    """Four damaged images and a sound one."""
    found = dict(broken_image(rng) for _ in range(4))
    return {**found, "sound.png": samples()["RGB.png"]}


def enlarged(self: Upscaler, lr: np.ndarray, seen: Any) -> Iterator[np.ndarray]:
    """In place of `Upscaler.rows`: each pixel 4x4 times."""
    yield lr.repeat(4, 0).repeat(4, 1)


@pytest.mark.parametrize(("network", "count"), [(True, 8), (False, 100)])
def test_upscale_does_the_rest(
    network: bool, count: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each output is whole or missing, and each missing one is named."""
    monkeypatch.setattr("tvqrap.runtime.cores.idle_cores", lambda: 1)
    if not network:
        monkeypatch.setattr(Upscaler, "rows", enlarged)
        upscaler = Upscaler.from_pretrained(model)
        monkeypatch.setattr(Upscaler, "from_pretrained", lambda *_, **__: upscaler)

    def use(given: Path, out: Path) -> None:
        words = ("upscale", given, "-o", out, "--model", model, "--max-pixels", 10_000)
        done = command(*words, "--format", form[0])
        form.rotate(-1)
        made = {path.name.split(".")[0] for path in out.iterdir()}
        assert "sound" in made
        for path in out.iterdir():
            with Image.open(path) as image:
                image.load()
        failed = [path for path in given.iterdir() if str(path) in done.output]
        assert len(list(out.iterdir())) >= len(list(given.iterdir())) - len(failed)
        assert (done.exit_code == 0) == (len(list(out.iterdir())) == len(list(given.iterdir())))
        unforeseen = re.search(r"^\S*/input/\S+: [A-Z]\w+: .*", done.output, re.MULTILINE)
        assert unforeseen is None, unforeseen

    form = collections.deque(["png", "jpeg", "webp", "tiff"])
    assert_no_fault(Trial("upscale", broken_folder, use), tmp_path, count)


def test_the_scan_of_photographs(tmp_path: Path) -> None:
    def use(given: Path, out: Path) -> None:
        data = data_settings(given, min_side=2, max_pixels=MAX_PIXELS, max_skipped_fraction=1.0)
        found = scan_photos(data, executor="serial", workers=1)
        assert len(found.usable) + len(found.skipped) == len(list(given.iterdir()))
        assert [complaint(entry.reason) for entry in found.skipped if complaint(entry.reason)] == []

    assert_no_fault(Trial("scan", broken_folder, use), tmp_path, 150)


def test_evaluate_names_what_it_cannot_score(tmp_path: Path) -> None:
    def make(rng: Random) -> Files:
        name, content = broken_image(rng, rng.choice(["png", "jpg", "tif"]))
        side = rng.choice(["gt", "lq"])
        stem = Path(name).stem
        files = {f"{folder}/{stem}.png": whole[folder] for folder in ("gt", "lq")}
        del files[f"{side}/{stem}.png"]
        more = {f"{folder}/sound.png": whole[folder] for folder in ("gt", "lq")}
        return {**files, f"{side}/{name}": content, **more}

    def use(given: Path, out: Path) -> None:
        words = ("evaluate", "bicubic", "--gt", given / "gt", "--lq", given / "lq", "-o", out / "o")
        done = command(*words, "--metrics", "psnr_y", "--workers", 1)
        assert done.exit_code or (out / "o/report.html").is_file()

    whole = {"lq": _png(texture(8, 18, 22)), "gt": _png(texture(8, 72, 88))}
    for side, content in whole.items():
        (tmp_path / "sound" / side).mkdir(parents=True)
        (tmp_path / "sound" / side / "sound.png").write_bytes(content)
    use(tmp_path / "sound", tmp_path / "sound")  # imports once what each process would import
    assert_no_fault(Trial("evaluate", make, use), tmp_path, 20)


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
