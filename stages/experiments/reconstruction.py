"""Scores of a tokenizer's reconstruction of the test set, by the metrics of `evaluate`.

`python -m stages.experiments.reconstruction OUT`, in the top folder of a checkout whose tokenizer
is trained, writes scores.json, metrics.json and per_image.csv. Its row is the row `tokenizer` of
`evaluate`, and needs neither tokens of the training set nor predictor nor RAP.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.shards.codec import decode_png
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from stages.evaluate import PAIRS, ROW, TOKENIZER, tokenizer_protocol
from stages.params import load_params
from tvqrap.evaluation.cases import Case, PendingCase
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.evaluation.results import check_complete
from tvqrap.evaluation.run import Evaluation, TestSet
from tvqrap.evaluation.unfinished import UNFINISHED
from tvqrap.images.tensors import to_tensor, to_uint8
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.pretrained.folder import load_tokenizer
from tvqrap.runtime.device import on_device, select_device, set_cuda_arithmetic
from tvqrap.runtime.errors import UserError


def score_reconstruction(out: Path) -> None:
    """Tokenizes and decodes the test set and writes its scores to the folder `out`.

    Raises `UserError` where a score is missing.
    """
    params = load_params()
    settings = params.evaluation
    device = select_device(params.compute.device, "compute.device")
    torch.set_num_threads(params.compute.threads)
    # Codes are choices between near neighbours: formats with fewer digits change some of them.
    set_cuda_arithmetic(tf32=False, cudnn_benchmark=False)
    pairs = Manifest.load(PAIRS)
    tokenizer = on_device(load_tokenizer(TOKENIZER), device)
    evaluation = Evaluation(
        TestSet(
            pairs.samples,
            has_hr=True,
            cases=_cases(pairs, tokenizer),
            data={"set": "test", "pairs": pairs.root, "images": pairs.samples},
        ),
        {ROW: tokenizer_protocol(device)},
        Scorer(settings.metrics),
        settings.confidence,
        codebook=tokenizer.architecture.codebook,
    )
    results = evaluation.score(out / UNFINISHED, title="reconstruction", overwrite=True)
    summary = results.summary()
    about = results.protocol(data=evaluation.tests.data, models=evaluation.models)
    results.write(out, summary, about)
    shutil.rmtree(out / UNFINISHED)
    check_complete(summary, out)


def _cases(pairs: Manifest, tokenizer: Tokenizer) -> Iterator[PendingCase]:
    for row in pairs.shards:
        for sample in read_shard(pairs.home(PAIRS) / row.name, row.sha256):
            yield PendingCase(sample.key, partial(_case, sample, tokenizer))


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
