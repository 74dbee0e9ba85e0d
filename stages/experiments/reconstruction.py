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

from pipeline.shards import Manifest, Sample, decode_png, read_shard
from stages.params import load_params
from tvqrap.errors import UserError
from tvqrap.evaluation.bootstrap import Resampling
from tvqrap.evaluation.codes import code_use
from tvqrap.evaluation.metrics import Scorer
from tvqrap.evaluation.scores import protocol, summarise, write_scores
from tvqrap.evaluation.scoring import Case, ImageScores, score_cases
from tvqrap.images import to_tensor, to_uint8
from tvqrap.model_folder import load_tokenizer, read_card
from tvqrap.progress import progress
from tvqrap.tokenizer import Tokenizer
from tvqrap.training.precision import device_of, on_device

PAIRS = Path("data/pairs/test")
TOKENIZER = Path("models/tokenizer")
ROW = "tokenizer"


def score_reconstruction(out: Path) -> None:
    """Tokenizes and decodes the test set and writes its scores to the folder `out`.

    Raises `UserError` where a score is missing.
    """
    params = load_params()
    settings = params.evaluation
    device = device_of(params.compute)
    # Codes are choices between near neighbours: formats with fewer digits change some of them.
    torch.backends.cudnn.allow_tf32 = False
    pairs = Manifest.load(PAIRS)
    tokenizer = on_device(load_tokenizer(TOKENIZER), device)
    rows: list[ImageScores] = []
    codes: list[NDArray[np.integer]] = []
    with progress("reconstruction", total=pairs.samples, unit="image") as advance:
        for scored in score_cases(_cases(pairs, tokenizer), Scorer(settings.metrics)):
            rows += scored.rows
            codes.append(scored.case.codes[ROW].reshape(-1))
            advance()
    use = code_use(np.concatenate(codes), tokenizer.architecture.codebook)
    totals = {ROW: {"code_usage": use.usage, "code_perplexity": use.perplexity}}
    resampling = Resampling(settings.bootstrap_samples, settings.confidence, settings.seed)
    summary = summarise(rows, totals, resampling)
    about = protocol(
        settings.metrics,
        resampling,
        pad_multiple=settings.pad_multiple,
        data={"set": "test", "pairs": pairs.root, "images": pairs.samples},
        models={ROW: read_card(TOKENIZER).fingerprint},
    )
    write_scores(out, summary, rows, about)
    if summary.failures:
        worst = summary.failures[0]
        raise UserError(
            f"{len(summary.failures)} scores are missing, the first: {worst.metric} of "
            f"{worst.image}: {worst.reason}"
        )


def _cases(pairs: Manifest, tokenizer: Tokenizer) -> Iterator[Callable[[], Case]]:
    for row in pairs.shards:
        for sample in read_shard(PAIRS / row.name):
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
