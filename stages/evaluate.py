"""Stage `evaluate`: scores bicubic, the tokenizer's reconstruction, the predictor and RAP."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.loading.dataset import ShardedDataset
from pipeline.shards.codec import decode_array, decode_png
from pipeline.shards.manifest import Manifest
from pipeline.tokens.check import check_tokens
from stages.runner.declared import outs_of, read_pipeline
from stages.runner.publish import publish
from stages.runner.stage import Stage, run_stage
from tvqrap.architecture import SCALE
from tvqrap.evaluation.baselines import enlarge
from tvqrap.evaluation.cases import Case, PendingCase
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.evaluation.report.curves import write_score_curves
from tvqrap.evaluation.report.page import Page
from tvqrap.evaluation.results import check_complete
from tvqrap.evaluation.run import Evaluation, Report, TestSet, write_results
from tvqrap.evaluation.summary import padding
from tvqrap.evaluation.unfinished import UNFINISHED
from tvqrap.images.padding import pad_to_multiple
from tvqrap.images.tensors import to_tensor, to_uint8
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import load_tokenizer, read_config
from tvqrap.pretrained.upscaler import load_upscaler
from tvqrap.runtime.atomic import write_atomic
from tvqrap.runtime.device import on_device, select_device
from tvqrap.runtime.hardware import device_name

PAIRS = Path("data/pairs/test")
TOKENS = Path("data/tokens/test")
TOKENIZER = Path("models/tokenizer")
UPSCALERS = {"predictor": Path("models/predictor"), "rap": Path("models/rap")}
OUT = Path("evaluation")
ROW = "tokenizer"
"""The tokenizer's row of the table: it decodes the tokens of HR, an upper bound."""

TIMED_RUNS = 3


@dataclass(frozen=True)
class TokenizedPair:
    """One pair of the test set with the tokens of its HR."""

    key: str
    photo: str
    hr: NDArray[np.uint8]
    lr: NDArray[np.uint8]
    codes: NDArray[np.uint16]
    structure: NDArray[np.float16] | None


def evaluate(stage: Stage) -> None:
    """Scores the test set and publishes metrics, pictures and timing."""
    settings = stage.params.evaluation
    device = select_device(stage.params.compute.device, "compute.device")
    torch.set_num_threads(stage.params.compute.threads)
    pairs, tokens = Manifest.load(PAIRS), Manifest.load(TOKENS)
    check_tokens(TOKENS, TOKENIZER, pairs=PAIRS)
    models = Models(
        on_device(load_tokenizer(TOKENIZER), device),
        {name: on_device(load_upscaler(folder), device) for name, folder in UPSCALERS.items()},
        settings.pad_multiple,
    )
    samples = ShardedDataset.open(PAIRS, TOKENS)
    images = _test_images(samples)
    first = next(images)
    timing = _timing(models, first)
    notes = tuple(
        f"{dropped['key']}: not scored, without tokens: {dropped['reason']}"
        for dropped in tokens.extra.get("dropped", ())
    )
    for note in notes:
        print(note, flush=True)
    evaluation = Evaluation(
        TestSet(
            samples.samples,
            has_hr=True,
            cases=(PendingCase(i.key, partial(models.case, i)) for i in chain([first], images)),
            data={"set": "test", "pairs": pairs.root, "images": samples.samples},
            notes=notes,
        ),
        {
            "bicubic": {"kind": "Pillow's bicubic"},
            ROW: tokenizer_protocol(TOKENIZER, device),
            **{name: _upscaler_protocol(name, device, models) for name in UPSCALERS},
        },
        Scorer(settings.metrics),
        settings.confidence,
        codebook=models.tokenizer.architecture.codebook,
    )
    # The scratch folder is that of these params, inputs and code, whatever the versions.
    results = evaluation.score(stage.scratch / UNFINISHED, overwrite=True)
    out = stage.scratch / OUT.name
    page = Page(
        "Scores of the test set",
        f"{len(results.images)} images of {len({row.photo for row in results.rows})} photographs; "
        f"SHA-256 of the pairs: {pairs.root[:12]}",
        focus="rap",
        ceiling=ROW,
    )
    report = Report(page, settings.pictures, "Test set")
    tests = evaluation.tests
    summary = write_results(out, results, report, data=tests.data, models=evaluation.models)
    write_score_curves(out / "curves", summary, results.rows)
    write_atomic(out / "timing.json", json.dumps(timing, indent=2) + "\n")
    # One by one: other files in that folder are not this stage's.
    for made in outs_of(read_pipeline()["evaluate"]):
        publish(out / made.name, made)
    check_complete(summary, OUT)


def tokenizer_protocol(folder: Path, device: torch.device) -> dict[str, Any]:
    """The description of a tokenizer's row in the results."""
    return {
        "kind": "decoded tokens of HR",
        "fingerprint": read_config(folder).fingerprint,
        "device": device_name(device),
    }


def _upscaler_protocol(name: str, device: torch.device, models: "Models") -> dict[str, Any]:
    return {
        "kind": "tvqrap",
        "fingerprint": read_config(UPSCALERS[name]).fingerprint,
        "device": device_name(device),
        "padding": padding(models.pad_multiple),
        "tiling": None,
    }


def _test_images(samples: ShardedDataset) -> Iterator[TokenizedPair]:
    """Pairs joined with their tokens by key; those without tokens are left out."""
    for shard in range(len(samples.shards)):
        for sample in samples.read(shard):
            structure = sample.members.get("structure.npy")
            yield TokenizedPair(
                key=sample.key,
                photo=json.loads(sample.members["json"])["photo"],
                hr=decode_png(sample.members["hr.png"]),
                lr=decode_png(sample.members["lr0.png"]),
                codes=decode_array(sample.members["codes.npy"]),
                structure=None if structure is None else decode_array(structure),
            )


@dataclass(frozen=True)
class Models:
    """The networks behind the rows of the table."""

    tokenizer: Tokenizer
    upscalers: dict[str, UpscalerNetwork]
    pad_multiple: int

    def case(self, image: TokenizedPair) -> Case:
        """One pair with the image of each model."""
        made = {
            "bicubic": enlarge(image.lr, "bicubic"),
            "tokenizer": _pixels(self.decode(image.codes, image.structure)),
        }
        known: dict[str, dict[str, float]] = {}
        codes: dict[str, NDArray[np.integer]] = {"tokenizer": image.codes}
        for name in self.upscalers:
            upscaled, codes[name] = self.upscale(name, image.lr)
            made[name] = _pixels(upscaled)
            known[name] = {"code_accuracy": float((codes[name] == image.codes).mean())}
        return Case(image.key, image.photo, image.hr, image.lr, made, known, codes)

    def pixels(self, name: str, image: TokenizedPair) -> NDArray[np.uint8] | str:
        """The image in a network's row, or the reason why there is none."""
        if name == ROW:
            return _pixels(self.decode(image.codes, image.structure))
        return _pixels(self.upscale(name, image.lr)[0])

    @torch.inference_mode()
    def decode(self, codes: NDArray[np.uint16], structure: NDArray[np.float16] | None) -> Tensor:
        """The tokenizer's reconstruction (1, 3, 4H, 4W), from tokens as they are stored."""
        device = self.tokenizer.codebook.embedding.weight.device
        batch = torch.from_numpy(codes.astype(np.int64))[None].to(device)
        if structure is None:
            return self.tokenizer.decode_codes(None, batch)
        features = torch.from_numpy(structure)[None].float().to(device)
        return self.tokenizer.decode_codes(features, batch)

    @torch.inference_mode()
    def upscale(self, name: str, lr: NDArray[np.uint8]) -> tuple[Tensor, NDArray[np.int64]]:
        """The upscaled image (1, 3, 4H, 4W) and the best-scored codes."""
        network = self.upscalers[name]
        device = network.codebook.embedding.weight.device
        padded = pad_to_multiple(to_tensor(lr)[None], self.pad_multiple).to(device)
        prediction = network.predict(padded.contiguous(memory_format=torch.channels_last))
        codes = prediction.logits.argmax(1)
        decoded = network.decode(prediction)
        height, width = (SCALE * side for side in lr.shape[:2])
        texture = network.architecture.texture
        inside = codes[0, : height // texture, : width // texture]
        return decoded[..., :height, :width], inside.cpu().numpy()


def _pixels(image: Tensor) -> NDArray[np.uint8] | str:
    try:
        return to_uint8(image[0])
    except ValueError as error:
        return str(error)


def _timing(models: Models, image: TokenizedPair) -> dict[str, dict[str, float]]:
    """Parameters, and the median time to make one image after a first one, alone on the machine.

    An image is made when its pixels are: a GPU still computes when a network's call returns.
    """
    runs: dict[str, tuple[torch.nn.Module | None, Callable[[], object]]] = {
        "bicubic": (None, lambda: enlarge(image.lr, "bicubic")),
    }
    for name, network in {ROW: models.tokenizer, **models.upscalers}.items():
        runs[name] = (network, partial(models.pixels, name, image))
    timing = {}
    for name, (module, make) in runs.items():
        seconds = []
        for _ in range(1 + TIMED_RUNS):
            start = time.perf_counter()
            make()
            seconds.append(time.perf_counter() - start)
        timing[name] = {
            "parameters": 0 if module is None else sum(p.numel() for p in module.parameters()),
            "seconds_per_image": round(statistics.median(seconds[1:]), 4),
        }
    return timing


if __name__ == "__main__":
    run_stage("evaluate", evaluate)
