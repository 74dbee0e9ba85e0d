"""Metrics: equal to pyiqa called by hand and to references of their own, honest about failures."""

import hashlib
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from tests.support.paths import ROOT
from tvqrap.config.evaluation import MetricName
from tvqrap.evaluation.metrics import pyiqa as pyiqa_metric
from tvqrap.evaluation.metrics import scorer
from tvqrap.evaluation.metrics import weights as metric_weights
from tvqrap.evaluation.metrics.registry import METRICS, Score
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.evaluation.metrics.weights import SOURCES, Source, fetch_weights, find_weights
from tvqrap.losses.perceptual import PerceptualDistance

FREE: list[MetricName] = [name for name, metric in METRICS.items() if not metric.weights]
HEAVY: list[MetricName] = [name for name, metric in METRICS.items() if metric.weights]
PHOTO = ROOT / "data/photos/chelsea.jpg"


def pair(size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    hr = rng.integers(0, 256, (size, size + 8, 3)).astype(np.float64)
    hr = (hr + np.roll(hr, 1, 0) + np.roll(hr, 1, 1)) / 3
    noisy = np.clip(hr + rng.normal(0, 12, hr.shape), 0, 255)
    return noisy.round().astype(np.uint8), hr.round().astype(np.uint8)


def luma(image: np.ndarray) -> np.ndarray:
    """Y of ITU-R BT.601, 16 to 235, in float64."""
    return image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def filtered(image: np.ndarray) -> np.ndarray:
    x = np.arange(11) - 5
    kernel = np.exp(-(x**2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    windows = np.lib.stride_tricks.sliding_window_view(image, (11, 11))
    return np.einsum("hwij,i,j->hw", windows, kernel, kernel)


def ssim_y(image: np.ndarray, reference: np.ndarray) -> float:
    """SSIM of Wang et al. 2004: Gaussian window 11, sigma 1.5, only where the window fits."""
    a, b = luma(image), luma(reference)
    mean_a, mean_b = filtered(a), filtered(b)
    var_a, var_b = filtered(a * a) - mean_a**2, filtered(b * b) - mean_b**2
    covariance = filtered(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    contrast = np.maximum((2 * covariance + c2) / (var_a + var_b + c2), 0)
    return float(((2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * contrast).mean())


def value(score: Score) -> float:
    assert score.value is not None, score.reason
    return score.value


def test_psnr_and_ssim_equal_a_float64_reference() -> None:
    image, hr = pair()
    chosen = Scorer(["psnr_y", "ssim_y"])
    scores = chosen.score(image, chosen.reference(hr))
    psnr = 10 * np.log10(255**2 / np.mean((luma(image) - luma(hr)) ** 2))
    assert value(scores["psnr_y"]) == pytest.approx(psnr, abs=0.01)
    assert value(scores["ssim_y"]) == pytest.approx(ssim_y(image, hr), abs=1e-4)


def test_the_grid_is_small_in_a_photo_and_large_in_squares() -> None:
    hr = np.asarray(Image.open(PHOTO).convert("RGB"))[:256, :256]
    lr = Image.fromarray(hr).resize((64, 64), Image.Resampling.BICUBIC)
    smooth, squares = (
        np.asarray(lr.resize((256, 256), way))
        for way in (Image.Resampling.BICUBIC, Image.Resampling.NEAREST)
    )
    chosen = Scorer(["grid"])
    photo, blurred, squared = (
        value(chosen.score(image, None)["grid"]) for image in (hr, smooth, squares)
    )
    assert photo < 0.1 < blurred < 0.4 < 1.4 < squared
    small = chosen.score(hr[:8, :8], None)["grid"]
    assert small.value is None and "9 pixels" in small.reason


def test_every_metric_equals_pyiqa_by_hand() -> None:
    import pyiqa

    from tvqrap.losses.perceptual_weights import stlpips_weights

    image, hr = pair(192)
    chosen = Scorer(FREE)
    assert chosen.missing == {}
    scores = chosen.score(image, chosen.reference(hr))
    a, b = (torch.from_numpy(x).permute(2, 0, 1)[None] / 255 for x in (image, hr))
    for name in FREE:
        metric = METRICS[name]
        if metric.pyiqa is None:
            continue
        options = dict(metric.options)
        if name in ("stlpips_alex", "stlpips_vgg"):
            backbone = "alex" if name == "stlpips_alex" else "vgg"
            options["pretrained_model_path"] = str(stlpips_weights(backbone))
        by_hand = pyiqa.create_metric(metric.pyiqa, device=torch.device("cpu"), **options)
        expected = float(by_hand(a, b) if metric.reference else by_hand(a))
        assert value(scores[name]) == pytest.approx(expected, abs=1e-5), name
        assert by_hand.lower_better == (metric.better == "lower"), name
        assert (by_hand.metric_mode == "FR") == metric.reference, name


def test_a_missing_metric_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pyiqa_metric, scorer):
        monkeypatch.setattr(module, "pyiqa_version", lambda: None)
    image, hr = pair()
    chosen = Scorer(["psnr_y", "stlpips_alex"])
    assert "pip install tvqrap[evaluation]" in chosen.missing["psnr_y"]
    scores = chosen.score(image, chosen.reference(hr))
    assert scores["psnr_y"].value is None and "pyiqa is not installed" in scores["psnr_y"].reason
    assert scores["stlpips_alex"].value is not None


def test_what_has_no_score_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    image, hr = pair()
    chosen = Scorer(["psnr_y", "piqe"])
    assert chosen.score(image, None)["psnr_y"] == Score(None, "needs HR")
    assert chosen.score(image, None)["piqe"].value is not None
    smaller = chosen.score(image[:-4], chosen.reference(hr))
    assert smaller["psnr_y"] == Score(None, "72x60 image against 72x64 HR")

    def broken(image: torch.Tensor, reference: object) -> torch.Tensor:
        raise RuntimeError("out of order\nsecond line")

    monkeypatch.setitem(chosen._metrics, "psnr_y", lambda image, reference: torch.tensor(np.nan))
    monkeypatch.setitem(chosen._metrics, "piqe", broken)
    scores = chosen.score(image, chosen.reference(hr))
    assert scores["psnr_y"] == Score(None, "gave nan")
    assert scores["piqe"] == Score(None, "RuntimeError: out of order")


def test_a_reference_that_takes_too_much_costs_one_metric(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = Scorer(["stlpips_vgg", "psnr_y"])

    def greedy(self: PerceptualDistance, image: torch.Tensor) -> list[torch.Tensor]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(PerceptualDistance, "features", greedy)
    image, hr = pair()
    scores = chosen.score(image, chosen.reference(hr))
    assert scores["stlpips_vgg"].value is None
    assert "can't allocate memory" in scores["stlpips_vgg"].reason
    assert scores["psnr_y"].value is not None


def test_images_that_are_too_small_have_a_reason() -> None:
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    chosen = Scorer(["psnr_y", "stlpips_alex"])
    scores = chosen.score(image, chosen.reference(image + 8))
    assert scores["psnr_y"].value is not None
    assert "16x16 image" in scores["stlpips_alex"].reason


def unpublished(monkeypatch: pytest.MonkeyPatch, metric: MetricName) -> None:
    """Takes made-up files for a metric's own."""
    for name in METRICS[metric].weights:
        monkeypatch.setitem(SOURCES, name, Source(SOURCES[name].url, ""))


class TestWeights:
    """Metrics whose weights are not here: wired through stand-ins and made-up files."""

    @pytest.fixture(autouse=True)
    def no_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TVQRAP_WEIGHTS", raising=False)
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))

    def test_all_of_the_papers_tables_are_known(self) -> None:
        names = {"psnr", "ssim", "lpips", "dists", "clipiqa", "musiq", "maniqa", "maniqa-pipal"}
        assert names | {"niqe", "fid"} <= {metric.pyiqa for metric in METRICS.values()}
        assert set(SOURCES) == {file for metric in METRICS.values() for file in metric.weights}
        assert all(source.url.startswith("https://") for source in SOURCES.values())

    @pytest.mark.parametrize("name", HEAVY)
    def test_without_its_files_a_metric_is_missing(self, name: MetricName) -> None:
        chosen = Scorer([name])
        assert METRICS[name].weights[0] in chosen.missing[name]
        assert f"tvqrap-cli metrics --fetch {name}" in chosen.missing[name]

    @pytest.mark.parametrize("name", [n for n in HEAVY if not METRICS[n].of_set])
    def test_a_stand_in_is_asked_as_pyiqa_would_be(
        self, name: MetricName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built: list[tuple[str, dict[str, Path]]] = []
        inside = threading.Lock()

        def stand_in(metric: object, files: dict[str, Path]) -> object:
            built.append((METRICS[name].pyiqa, files))

            def network(*images: torch.Tensor) -> torch.Tensor:
                alone = inside.acquire(blocking=not METRICS[name].one_at_a_time)
                assert alone, "two threads at once"
                try:
                    assert len(images) == (2 if METRICS[name].reference else 1)
                    assert all(image.min() >= 0 and image.max() <= 1 for image in images)
                    return images[0].mean()[None, None]
                finally:
                    inside.release()

            return network

        for file in METRICS[name].weights:
            (tmp_path / file).write_bytes(b"made up")
        monkeypatch.setattr(scorer, "build_metric", stand_in)
        chosen = Scorer([name], tmp_path)
        image, hr = pair()
        threads = [
            threading.Thread(target=chosen.score, args=(image, chosen.reference(hr)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        scores = chosen.score(image, chosen.reference(hr))
        assert value(scores[name]) == pytest.approx(image.mean() / 255, abs=1e-5)
        assert built == [(METRICS[name].pyiqa, {f: tmp_path / f for f in METRICS[name].weights})]
        expected = hashlib.sha256(b"made up").hexdigest()
        assert chosen.protocol()[name]["weights"] == dict.fromkeys(METRICS[name].weights, expected)

    def test_niqe_reads_a_made_up_file(self, tmp_path: Path) -> None:
        import pyiqa

        rng = np.random.default_rng(1)
        path = tmp_path / METRICS["niqe"].weights[0]
        spread = rng.normal(size=(36, 36))
        prior = {"mu_prisparam": rng.random((1, 36)), "cov_prisparam": spread @ spread.T}
        scipy.io.savemat(path, prior)
        chosen = Scorer(["niqe"], tmp_path)
        assert chosen.missing == {}
        image, _ = pair(200)
        by_hand = pyiqa.create_metric(
            "niqe", device=torch.device("cpu"), pretrained_model_path=str(path)
        )
        expected = float(by_hand(torch.from_numpy(image).permute(2, 0, 1)[None] / 255))
        assert value(chosen.score(image, None)["niqe"]) == pytest.approx(expected, rel=1e-6)

    def test_a_pickle_that_would_run_code_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

        unpublished(monkeypatch, "musiq")
        torch.save({"params": Trap()}, tmp_path / METRICS["musiq"].weights[0])
        chosen = Scorer(["musiq"], tmp_path)
        assert (
            "weights_only" in chosen.missing["musiq"].lower()
            or "Unpickl" in (chosen.missing["musiq"])
        )
        assert not (tmp_path / "sprung").exists()

    def test_torch_and_pyiqa_are_as_before(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import pyiqa.utils.download_util as downloads

        unpublished(monkeypatch, "musiq")
        before = (torch.load, torch.hub.download_url_to_file, downloads.DEFAULT_CACHE_DIR)
        (tmp_path / METRICS["musiq"].weights[0]).write_bytes(b"no weights")
        assert "musiq" in Scorer(["musiq"], tmp_path).missing
        after = (torch.load, torch.hub.download_url_to_file, downloads.DEFAULT_CACHE_DIR)
        assert before == after

    def test_clip_is_opened_only_where_it_is_openais(self, tmp_path: Path) -> None:
        (tmp_path / "RN50.pt").write_bytes(b"something else")
        assert "SHA-256 is" in Scorer(["clipiqa"], tmp_path).missing["clipiqa"]

    def test_a_file_that_is_not_the_published_one_is_refused(self, tmp_path: Path) -> None:
        for file in METRICS["lpips"].weights:
            (tmp_path / file).write_bytes(b"something else")
        reason = Scorer(["lpips"], tmp_path).missing["lpips"]
        assert reason.startswith(f"{tmp_path / METRICS['lpips'].weights[0]}: SHA-256 is ")
        assert reason.endswith("expected df73285e...")

    def test_fetching_checks_what_it_got(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def download(url: str, target: str) -> None:
            asked.append(url)
            Path(target).write_bytes(b"wrong")

        monkeypatch.setattr(torch.hub, "download_url_to_file", download)
        with pytest.raises(metric_weights.UserError, match=r"SHA-256 is .* expected df73285e"):
            fetch_weights("lpips", tmp_path)
        assert not list(tmp_path.iterdir())
        assert fetch_weights("niqe", tmp_path) == [tmp_path / METRICS["niqe"].weights[0]]
        assert fetch_weights("niqe", tmp_path) == []
        assert find_weights("niqe", tmp_path) == {path.name: path for path in tmp_path.iterdir()}
        assert len(asked) == 2

    @pytest.mark.slow
    def test_fid_of_made_up_weights_equals_pyiqa_by_hand(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Inception's own forward pass and pyiqa's loading, with random weights."""
        unpublished(monkeypatch, "fid")
        from pyiqa.archs import inception

        torch.manual_seed(0)
        path = tmp_path / METRICS["fid"].weights[0]
        original = inception.load_pretrained_network
        try:
            inception.load_pretrained_network = lambda *arguments: None
            torch.save(inception.fid_inception_v3().state_dict(), path)
        finally:
            inception.load_pretrained_network = original
        rng = np.random.default_rng(0)
        for folder, deviation in (("hr", 0), ("made", 20)):
            (tmp_path / folder).mkdir()
            for number in range(3):
                pixels = 128 + 40 * np.random.default_rng(number).normal(size=(64, 64, 3))
                pixels = np.clip(pixels + deviation * rng.normal(size=pixels.shape), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / f"{number}.png")
        chosen = Scorer(["fid"], tmp_path)
        assert chosen.missing == {}
        found = chosen.score_set(tmp_path / "made", tmp_path / "hr")["fid"]
        assert value(found) > 0
        same = chosen.score_set(tmp_path / "hr", tmp_path / "hr")["fid"]
        assert value(same) == pytest.approx(0, abs=1e-3 * value(found))
        cache = tmp_path / "by-hand"
        (cache / "pyiqa").mkdir(parents=True)
        shutil.copy(path, cache / "pyiqa")
        import pyiqa
        import pyiqa.utils.download_util as downloads

        before = downloads.DEFAULT_CACHE_DIR
        try:
            downloads.DEFAULT_CACHE_DIR = str(cache / "pyiqa")
            by_hand = pyiqa.create_metric("fid", device=torch.device("cpu"))
        finally:
            downloads.DEFAULT_CACHE_DIR = before
        folders = (str(tmp_path / "made"), str(tmp_path / "hr"))
        expected = by_hand(*folders, num_workers=0, verbose=False)
        assert value(found) == pytest.approx(float(expected), rel=1e-4)
