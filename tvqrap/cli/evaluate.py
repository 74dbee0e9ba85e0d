"""`tvqrap-cli evaluate`: scores of upscalers and of finished images."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvqrap.errors import UsageError, UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tvqrap.evaluation.folders import Matched
    from tvqrap.evaluation.scoring import Case
    from tvqrap.upscaler import Upscaler

BICUBIC = "bicubic"
DEFAULT_METRICS = "psnr_y,ssim_y,fsim,stlpips_vgg,stlpips_alex,piqe"
BOOTSTRAP_SAMPLES, CONFIDENCE, SEED = 2000, 0.95, 0
PICTURES = 6


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Model folders, `bicubic`, or folders of finished images."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    gt: Annotated[Path | None, typer.Option(help="Folder of HR images.")] = None,
    lq: Annotated[Path | None, typer.Option(help="Folder of LR images of the same names.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Folder of pair shards, in place of --gt and --lq.")
    ] = None,
    metrics: Annotated[str, typer.Option(help="Metrics, with commas between.")] = DEFAULT_METRICS,
    overwrite: Annotated[bool, typer.Option(help="Replace results that are there.")] = False,
) -> None:
    """Score upscalers: metrics.json, scores.json, per_image.csv and a picture."""
    if (gt is None) == (pairs is None):
        raise UsageError("expected either --gt (with --lq for models) or --pairs")
    if pairs is not None and lq is not None:
        raise UsageError("--lq goes with --gt, not with --pairs")
    names = _metric_names(metrics)
    if (output / "metrics.json").exists() and not overwrite:
        raise UserError(f"{output}: holds results already; --overwrite replaces them")
    named = _named(models)
    upscalers, finished = _sort(named)
    if pairs is not None and finished:
        raise UsageError(f"{next(iter(finished.values()))}: finished images need --gt")
    if gt is not None and lq is None and len(finished) < len(named):
        raise UsageError("--lq is missing: models and bicubic need LR images")

    from tvqrap.upscaler import PAD_MULTIPLE, Upscaler

    loaded = {
        name: None if folder is None else Upscaler.from_pretrained(folder)
        for name, folder in upscalers.items()
    }
    if pairs is not None:
        total, cases, data = _pair_cases(pairs, loaded)
    else:
        assert gt is not None
        total, cases, data = _folder_cases(gt, lq, loaded, finished, list(named))

    from rich.console import Console

    from tvqrap.evaluation.bootstrap import Resampling
    from tvqrap.evaluation.metrics import Scorer
    from tvqrap.evaluation.pictures import SheetRow, contact_sheet
    from tvqrap.evaluation.scores import protocol, summarise, write_scores
    from tvqrap.evaluation.scoring import ImageScores, score_cases
    from tvqrap.evaluation.table import score_table
    from tvqrap.images import save_png
    from tvqrap.model_folder import read_card
    from tvqrap.progress import progress

    resampling = Resampling(BOOTSTRAP_SAMPLES, CONFIDENCE, SEED)
    rows: list[ImageScores] = []
    sheet: dict[str, SheetRow] = {}
    with progress("evaluate", total=total, unit="image") as advance:
        for scored in score_cases(cases, Scorer(names)):
            case = scored.case
            rows += scored.rows
            pictures = [p for p in (*case.made.values(), case.hr) if not isinstance(p, str)]
            if len(sheet) < PICTURES and case.photo not in sheet and len(pictures) > len(named):
                sheet[case.photo] = SheetRow(case.image, [p for p in pictures if p is not None])
            advance()
    summary = summarise(rows, {}, resampling)
    about = protocol(
        names,
        resampling,
        pad_multiple=PAD_MULTIPLE,
        data=data,
        models={
            name: named[name] if folder is None else read_card(folder).fingerprint
            for name, folder in {**dict.fromkeys(named), **upscalers}.items()
        },
    )
    if sheet:
        picture = contact_sheet([*named, "HR"], list(sheet.values()))
        save_png(output / "pictures" / "sheet.png", picture)
    write_scores(output, summary, rows, about)
    Console().print(score_table(summary, f"{total} images"))
    if summary.failures:
        for failure in summary.failures[:10]:
            line = f"{failure.model}: {failure.image}: {failure.metric}: {failure.reason}"
            typer.echo(line, err=True)
        raise UserError(f"{len(summary.failures)} scores are missing, see {output / 'scores.json'}")


def _metric_names(given: str) -> list[Any]:
    from tvqrap.evaluation.metrics import METRICS

    names = [name.strip() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in METRICS:
            raise UsageError(f"--metrics: {name!r} is not known, expected of {', '.join(METRICS)}")
    if not names:
        raise UsageError(f"--metrics: none given, expected of {', '.join(METRICS)}")
    return list(dict.fromkeys(names))


def _named(models: list[str]) -> dict[str, str]:
    """What was given by a short name: a folder's own name where that is unique."""
    short = [Path(given).name for given in models]
    named: dict[str, str] = {}
    for given, name in zip(models, short, strict=True):
        name = name if short.count(name) == 1 else given
        if name in named:
            raise UsageError(f"{given}: is given twice")
        named[name] = given
    return named


def _sort(named: Mapping[str, str]) -> tuple[dict[str, Path | None], dict[str, Path]]:
    """Upscalers (None for bicubic) and folders of finished images."""
    upscalers: dict[str, Path | None] = {}
    finished: dict[str, Path] = {}
    for name, given in named.items():
        path = Path(given)
        if given == BICUBIC:
            upscalers[name] = None
        elif not path.is_dir():
            raise UserError(f"{given}: expected `bicubic`, a model folder or a folder of images")
        elif (path / "model.json").is_file():
            upscalers[name] = path
        else:
            finished[name] = path
    return upscalers, finished


def _made(lr: "NDArray[np.uint8]", upscaler: "Upscaler | None") -> "NDArray[np.uint8] | str":
    import numpy as np
    from PIL import Image

    if upscaler is None:
        size = (4 * lr.shape[1], 4 * lr.shape[0])
        return np.asarray(Image.fromarray(lr).resize(size, Image.Resampling.BICUBIC))
    try:
        return upscaler(lr)
    except ValueError as error:
        return str(error)


def _pair_cases(
    pairs: Path, upscalers: "Mapping[str, Upscaler | None]"
) -> "tuple[int, Iterator[Callable[[], Case]], dict[str, Any]]":
    import json

    from pipeline.shards import Manifest, Sample, decode_png, read_shard
    from tvqrap.evaluation.scoring import Case

    manifest = Manifest.load(pairs)
    if manifest.kind != "pairs":
        raise UserError(f"{pairs}: holds {manifest.kind}, expected pairs")

    def case(sample: Sample) -> Case:
        lr, hr = decode_png(sample.members["lr0.png"]), decode_png(sample.members["hr.png"])
        made = {name: _made(lr, upscaler) for name, upscaler in upscalers.items()}
        return Case(sample.key, json.loads(sample.members["json"])["photo"], hr, lr, made)

    def cases() -> "Iterator[Callable[[], Case]]":
        for row in manifest.shards:
            for sample in read_shard(pairs / row.name):
                yield partial(case, sample)

    return manifest.samples, cases(), {"set": manifest.set, "pairs": manifest.root}


def _folder_cases(
    gt: Path,
    lq: Path | None,
    upscalers: "Mapping[str, Upscaler | None]",
    finished: Mapping[str, Path],
    order: list[str],
) -> "tuple[int, Iterator[Callable[[], Case]], dict[str, Any]]":
    from tvqrap.evaluation.folders import fingerprint, match_folders
    from tvqrap.evaluation.scoring import Case

    matched = match_folders(gt, lq, finished)

    def case(files: "Matched") -> "Case":
        hr, lr = _read(files.hr), None if files.lr is None else _read(files.lr)
        made: dict[str, NDArray[np.uint8] | str] = {}
        for name in order:
            if isinstance(hr, str):
                made[name] = hr
            elif name in finished:
                made[name] = _read(files.finished[name])
            elif lr is None or isinstance(lr, str):
                made[name] = lr or "no LR"
            else:
                made[name] = _made(lr, upscalers[name])
        return Case(
            image=files.name,
            photo=files.name,
            hr=None if isinstance(hr, str) else hr,
            lr=None if isinstance(lr, str) else lr,
            made=made,
        )

    data = {"images": len(matched), "gt": fingerprint([files.hr for files in matched])}
    if lq is not None:
        data["lq"] = fingerprint([files.lr for files in matched if files.lr is not None])
    return len(matched), (partial(case, files) for files in matched), data


def _read(path: Path) -> "NDArray[np.uint8] | str":
    """An image's pixels, or why it cannot be read."""
    import numpy as np

    from tvqrap.images import read_image

    try:
        return np.asarray(read_image(path))
    except UserError as error:
        return str(error)
