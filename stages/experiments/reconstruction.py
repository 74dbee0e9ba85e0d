"""Scores of tokenizers' reconstructions of the test set, by the metrics of `evaluate`.

`python -m stages.experiments.reconstruction OUT MODEL...`, in the top folder of a checkout, writes
scores.json, metrics.json and per_image.csv, a row per tokenizer with the name of its folder. The
row of models/tokenizer is the row `tokenizer` of `evaluate`. All tokenizers have one codebook size.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.shards.codec import decode_png
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from stages.evaluate import PAIRS, tokenizer_protocol
from stages.experiments.columns import SHARE
from stages.params import load_params
from tvqrap.decomposition import structure_share
from tvqrap.evaluation.cases import Case, PendingCase
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.evaluation.results import check_complete
from tvqrap.evaluation.run import Evaluation, TestSet
from tvqrap.evaluation.statistics.intervals import mean_interval
from tvqrap.evaluation.unfinished import UNFINISHED
from tvqrap.images.tensors import to_tensor, to_uint8
from tvqrap.networks.tokenizer import Tokenizer, join
from tvqrap.pretrained.folder import load_tokenizer, read_config
from tvqrap.runtime.device import on_device, select_device, set_cuda_arithmetic
from tvqrap.runtime.errors import UserError

Shares = dict[str, dict[tuple[str, str], float]]
"""By tokenizer, and by photograph and image: the structure's part of the decoder's input."""


def score_reconstruction(out: Path, models: Sequence[Path]) -> None:
    """Tokenizes and decodes the test set by each model and writes the scores to the folder `out`.

    Raises `UserError` where a score is missing.
    """
    params = load_params()
    settings = params.evaluation
    device = select_device(params.compute.device, "compute.device")
    torch.set_num_threads(params.compute.threads)
    # Codes are choices between near neighbours: formats with fewer digits change some of them.
    set_cuda_arithmetic(tf32=False, cudnn_benchmark=False)
    pairs = Manifest.load(PAIRS)
    tokenizers = {path.name: on_device(load_tokenizer(path), device) for path in models}
    shares: Shares = {
        name: {} for name, each in tokenizers.items() if each.structure_decoder is not None
    }
    described = {path.name: tokenizer_protocol(path, device) for path in models}
    evaluation = Evaluation(
        TestSet(
            pairs.samples,
            has_hr=True,
            cases=_cases(pairs, tokenizers, shares),
            data={"set": "test", "pairs": pairs.root, "images": pairs.samples},
        ),
        described,
        Scorer(settings.metrics),
        settings.confidence,
        codebook=read_config(models[0]).architecture.codebook,
    )
    # Begins anew: an earlier run may have had other code, and the shares are not kept.
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)
    results = evaluation.score(out / UNFINISHED, title="reconstruction")
    summary = results.summary()
    totals = {name: {**summary.totals[name]} for name in tokenizers}
    for name, found in shares.items():
        of_photos: dict[str, list[float]] = {}
        for (photo, _), share in sorted(found.items()):  # threads add them in any order
            of_photos.setdefault(photo, []).append(share)
        totals[name][SHARE] = mean_interval(of_photos, settings.confidence).mean
    summary = replace(summary, totals=totals)
    about = results.protocol(data=evaluation.tests.data, models=evaluation.models)
    results.write(out, summary, about)
    shutil.rmtree(out / UNFINISHED)
    check_complete(summary, out)


def _cases(
    pairs: Manifest, tokenizers: Mapping[str, Tokenizer], shares: Shares
) -> Iterator[PendingCase]:
    for row in pairs.shards:
        for sample in read_shard(pairs.home(PAIRS) / row.name, row.sha256):
            yield PendingCase(sample.key, partial(_case, sample, tokenizers, shares))


@torch.inference_mode()
def _case(sample: Sample, tokenizers: Mapping[str, Tokenizer], shares: Shares) -> Case:
    hr = decode_png(sample.members["hr.png"])
    photo = json.loads(sample.members["json"])["photo"]
    made: dict[str, NDArray[np.uint8] | str] = {}
    codes: dict[str, NDArray[np.integer]] = {}
    for name, tokenizer in tokenizers.items():
        device = tokenizer.codebook.embedding.weight.device
        structure, chosen = tokenizer.tokenize(to_tensor(hr)[None].to(device))
        quantized = tokenizer.codebook.lookup(chosen)
        decoded = None
        if structure is not None and tokenizer.structure_decoder is not None:
            stored = structure.half().float()  # as in token datasets
            decoded = tokenizer.structure_decoder(stored)
            shares[name][photo, sample.key] = structure_share(decoded, quantized)
        image = tokenizer.decoder(join(decoded, quantized))[0].cpu()
        try:
            made[name] = to_uint8(image)
        except ValueError as error:
            made[name] = str(error)
        codes[name] = chosen[0].cpu().numpy()
    return Case(sample.key, photo, hr, None, made, codes=codes)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python -m stages.experiments.reconstruction OUT MODEL...")
    try:
        score_reconstruction(Path(sys.argv[1]), [Path(model) for model in sys.argv[2:]])
    except UserError as error:
        sys.exit(f"reconstruction: {error}")
