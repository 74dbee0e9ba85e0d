"""Scores of a tokenizer's own reconstruction of the test set, by the metrics of `evaluate`.

`python -m stages.experiments.reconstruction OUT`, in the top folder of a checkout whose tokenizer
is trained, writes scores.json, metrics.json and per_image.csv. Its row is the row `tokenizer` of
`evaluate`, had without tokens of the training set, predictor and RAP.
"""

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.shards.codec import decode_png
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from stages.params import load_params
from tvqrap.evaluation.cases import Case, score_cases
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.evaluation.results import Results, check_losses
from tvqrap.evaluation.statistics.intervals import Resampling
from tvqrap.images.tensors import to_tensor, to_uint8
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.pretrained.folder import load_tokenizer, read_config
from tvqrap.runtime.device import on_device, select_device
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.progress import progress

PAIRS = Path("data/pairs/test")
TOKENIZER = Path("models/tokenizer")
ROW = "tokenizer"


def score_reconstruction(out: Path) -> None:
    """Tokenizes and decodes the test set and writes its scores to the folder `out`.

    Raises `UserError` where a score is missing.
    """
    params = load_params()
    settings = params.evaluation
    device = select_device(params.compute.device, "compute.device")
    torch.set_num_threads(params.compute.threads)
    # Codes are choices between near neighbours: formats with fewer digits change some of them.
    torch.backends.cudnn.allow_tf32 = False
    pairs = Manifest.load(PAIRS)
    tokenizer = on_device(load_tokenizer(TOKENIZER), device)
    scorer = Scorer(settings.metrics)
    resampling = Resampling(settings.bootstrap_samples, settings.confidence, settings.seed)
    results = Results(scorer, resampling)
    with progress("reconstruction", total=pairs.samples, unit="image") as advance:
        for scored in score_cases(_cases(pairs, tokenizer), scorer):
            results.add(scored)
            advance()
    summary = results.summary(tokenizer.architecture.codebook)
    results.write(
        out,
        summary,
        data={"set": "test", "pairs": pairs.root, "images": pairs.samples},
        models={
            ROW: {
                "kind": "its own reconstruction",
                "fingerprint": read_config(TOKENIZER).fingerprint,
            }
        },
    )
    check_losses(summary, out)


def _cases(pairs: Manifest, tokenizer: Tokenizer) -> Iterator[Callable[[], Case]]:
    for row in pairs.shards:
        for sample in read_shard(pairs.home(PAIRS) / row.name):
            yield partial(_case, sample, tokenizer)


@torch.inference_mode()
def _case(sample: Sample, tokenizer: Tokenizer) -> Case:
    hr = decode_png(sample.members["hr.png"])
    device = tokenizer.codebook.embedding.weight.device
    structure, codes = tokenizer.tokenize(to_tensor(hr)[None].to(device))
    if structure is not None:
        structure = structure.half().float()  # as tokens are stored
    image = tokenizer.decode_codes(structure, codes)[0].cpu()
    made: NDArray[np.uint8] | str
    try:
        made = to_uint8(image)
    except ValueError as error:
        made = str(error)
    photo = json.loads(sample.members["json"])["photo"]
    return Case(sample.key, photo, hr, None, {ROW: made}, codes={ROW: codes[0].cpu().numpy()})


if __name__ == "__main__":
    try:
        score_reconstruction(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(f"reconstruction: {error}")
