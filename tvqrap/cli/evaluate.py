"""`tvqrap-cli evaluate`: scores of upscalers and of finished images."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvqrap.cli.evaluation_sets import Makers, TestSet, from_folders, from_realsr, from_shards
from tvqrap.cli.output_paths import check_writable
from tvqrap.runtime.errors import UsageError, UserError
from tvqrap.runtime.text import readable

if TYPE_CHECKING:
    from tvqrap.comparison.methods import Method
    from tvqrap.config.evaluation import MetricName

BASELINES = ("bicubic", "lanczos")
DEFAULT_METRICS = "psnr_y,ssim_y,fsim,stlpips_vgg,stlpips_alex,piqe,grid"
BOOTSTRAP_SAMPLES, CONFIDENCE, SEED = 2000, 0.95, 0
SHEET = 6
LISTED = 10
"""Lines of failures, and of notes, on standard error."""
SHEET_SIDE = 1024
"""The contact sheet shows images up to this side; the page has parts of larger ones."""


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Model folders, `bicubic`, `lanczos`, upscalers that spandrel knows (.pth, "
            ".safetensors), or folders of finished images; NAME=MODEL gives a name.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder for the results; with --compare, a JSON file to write."
        ),
    ] = None,
    gt: Annotated[Path | None, typer.Option(help="Folder of HR images.")] = None,
    lq: Annotated[
        Path | None,
        typer.Option(help="Folder of LR images of the same names; alone: no-reference metrics."),
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="Folder of pair shards.")] = None,
    realsr: Annotated[
        Path | None, typer.Option(help="RealSR V3 as released, or a folder of its images.")
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="Metrics, with commas between; `tvqrap-cli metrics` lists them.")
    ] = DEFAULT_METRICS,
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder of the metrics' weights, in place of the usual ones."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda, for the upscalers.")] = "cpu",
    tile: Annotated[
        int,
        typer.Option(
            help="LR images larger than a square of this side are upscaled in tiles of it."
        ),
    ] = 256,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Images in work at once; a core each if not given."),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two results (scores.json) to compare, in place of models."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace results that are there.")] = False,
) -> None:
    """Score upscalers: metrics.json, scores.json, per_image.csv, report.html and a picture."""
    if compare is not None:
        if models or gt or lq or pairs or realsr:
            raise UsageError("--compare: takes two results and neither models nor images")
        from tvqrap.cli.compare import compare_results

        compare_results(*compare, output, overwrite)
        return
    if not models:
        raise UsageError("no models given, expected model folders, bicubic, ... or --compare")
    if output is None:
        raise UsageError("--output is missing: a folder for the results")
    check_writable(output)
    if sum(source is not None for source in (gt or lq, pairs, realsr)) != 1:
        raise UsageError("expected one of --pairs, --realsr, or --gt and --lq")
    names = _metric_names(metrics)
    if (output / "metrics.json").exists() and not overwrite:
        raise UserError(f"{output}: holds results already; --overwrite replaces them")
    named = _named(models)
    upscalers, finished = _sort(named)
    if pairs is not None and finished:
        raise UsageError(f"{next(iter(finished.values()))}: finished images need --gt or --lq")
    if gt is not None and lq is None and upscalers:
        raise UsageError("--lq is missing: upscalers need LR images")
    makers = Makers(list(named), _methods(upscalers, device, tile), finished)
    if pairs is not None:
        tests = from_shards(pairs, makers)
    elif realsr is not None:
        tests = from_realsr(realsr, makers)
    else:
        tests = from_folders(gt, lq, makers)
    if not tests.has_hr:
        names = _without_hr(names, metrics != DEFAULT_METRICS)
    source = readable(str(pairs or realsr or gt or lq))
    _run(tests, makers, names, weights, output, source, workers)


def _run(
    tests: TestSet,
    makers: Makers,
    names: "list[MetricName]",
    weights: Path | None,
    output: Path,
    source: str,
    workers: int | None,
) -> None:
    from rich.console import Console

    from tvqrap.evaluation.cases import score_cases
    from tvqrap.evaluation.image_store import ImageStore
    from tvqrap.evaluation.metrics.scorer import Scorer
    from tvqrap.evaluation.report.contact_sheet import SheetRow, contact_sheet
    from tvqrap.evaluation.report.failures import failure_lines
    from tvqrap.evaluation.report.page import Page, write_report
    from tvqrap.evaluation.report.table import score_table
    from tvqrap.evaluation.results import Results, check_losses
    from tvqrap.evaluation.statistics.intervals import Resampling
    from tvqrap.images.save import save_png
    from tvqrap.runtime.progress import progress

    scorer = Scorer(names, weights)
    for name, reason in scorer.missing.items():
        typer.echo(f"{name}: missing: {reason}", err=True)
    resampling = Resampling(BOOTSTRAP_SAMPLES, CONFIDENCE, SEED)
    sheet: dict[str, SheetRow] = {}
    columns = [*makers.order, *(["HR"] if tests.has_hr else [])]
    with tempfile.TemporaryDirectory() as folder:
        results = Results(scorer, resampling, ImageStore(Path(folder)))
        with progress("evaluate", total=tests.images, unit="image") as advance:
            for scored in score_cases(tests.cases, scorer, workers):
                results.add(scored)
                case = scored.case
                shown = [*case.made.values(), *([case.hr] if tests.has_hr else [])]
                cells = [p for p in shown if p is not None and not isinstance(p, str)]
                fits = all(max(cell.shape) <= SHEET_SIDE for cell in cells)
                fits = fits and len(cells) == len(columns)
                if fits and len(sheet) < SHEET and case.photo not in sheet:
                    sheet[case.photo] = SheetRow(case.image, cells)
                advance()
        summary = results.summary()
        about = results.write(output, summary, data=tests.data, models=makers.protocol())
        page = Page(f"Evaluation on {source}", _described(tests), _focus(makers))
        write_report(output / "report.html", page, results, summary, about)
    page_of_pictures = output / "pictures" / "sheet.png"
    if sheet:
        save_png(page_of_pictures, contact_sheet(columns, list(sheet.values())))
    else:
        page_of_pictures.unlink(missing_ok=True)
    Console().print(score_table(summary, f"{tests.images} images"))
    typer.echo(f"{output / 'report.html'}: the page", err=True)
    for line in failure_lines(summary.failures, LISTED, str(output / "scores.json")):
        typer.echo(line, err=True)
    for note in results.notes[:LISTED]:
        typer.echo(f"note: {note}", err=True)
    if len(results.notes) > LISTED:
        typer.echo(
            f"note: and {len(results.notes) - LISTED} more, in {output / 'scores.json'}", err=True
        )
    check_losses(summary, output)


def _metric_names(given: str) -> "list[MetricName]":
    from tvqrap.evaluation.metrics.registry import METRICS

    names = [name.strip() for name in given.split(",") if name.strip()]
    known: dict[str, MetricName] = {name: name for name in METRICS}
    for name in names:
        if name not in known:
            raise UsageError(f"--metrics: {name!r} is not known, expected of {', '.join(METRICS)}")
    if not names:
        raise UsageError(f"--metrics: none given, expected of {', '.join(METRICS)}")
    return [known[name] for name in dict.fromkeys(names)]


def _without_hr(names: "list[MetricName]", chosen: bool) -> "list[MetricName]":
    """The metrics that need no HR; those that do are refused where they were asked for by name."""
    from tvqrap.evaluation.metrics.registry import METRICS, without_reference

    kept = without_reference(names)
    dropped = [name for name in names if name not in kept]
    if dropped and chosen:
        raise UsageError(
            f"--metrics: {', '.join(dropped)} need HR images, which LR alone has not; expected of "
            f"{', '.join(without_reference(METRICS))}"
        )
    if dropped:
        typer.echo(f"LR images alone: {', '.join(dropped)} need HR and are left out", err=True)
    return kept


def _named(models: list[str]) -> dict[str, str]:
    """What was given by a short name: NAME= or a path's last part where that is unique."""
    pairs = []
    for given in models:
        name, equals, path = given.partition("=")
        named = bool(equals and name and path and "/" not in name)
        pairs.append((name, path) if named else ("", given))
    short = [readable(name or Path(given).name) for name, given in pairs]
    found: dict[str, str] = {}
    for (given_name, given), name in zip(pairs, short, strict=True):
        name = readable(given_name) or (name if short.count(name) == 1 else readable(given))
        if name in found:
            raise UsageError(f"{name}: is given twice")
        if name in ("LR", "LR, bicubic", "HR"):
            raise UsageError(f"{name}: is what the page calls LR and HR, expected another name")
        found[name] = given
    return found


def _sort(named: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Path]]:
    """Upscalers, and folders of finished images."""
    upscalers: dict[str, str] = {}
    finished: dict[str, Path] = {}
    for name, given in named.items():
        path = Path(given)
        if given in BASELINES or path.is_file() or (path / "model.json").is_file():
            upscalers[name] = given
        elif path.is_dir():
            finished[name] = path
        else:
            raise UserError(
                f"{given}: expected {' or '.join(BASELINES)}, a model folder, a file of weights or "
                "a folder of images"
            )
    return upscalers, finished


def _methods(upscalers: Mapping[str, str], device: str, tile: int) -> "dict[str, Method]":
    if not upscalers:
        return {}
    if tile < 64 or tile % 64:
        raise UsageError(f"--tile: found {tile}, expected a multiple of 64")

    from tvqrap.comparison.methods import model_folder, plain
    from tvqrap.comparison.spandrel import SUFFIXES, other_upscaler
    from tvqrap.runtime.device import select_device

    select_device(device, "--device")
    found: dict[str, Method] = {}
    for name, given in upscalers.items():
        path = Path(given)
        if given == "bicubic":
            found[name] = plain("bicubic")
        elif given == "lanczos":
            found[name] = plain("lanczos")
        elif path.is_dir():
            try:
                found[name] = model_folder(path, device, tile)
            except ValueError as error:
                raise UsageError(f"--{error} for {given}") from None
        elif path.suffix.lower() in SUFFIXES:
            found[name] = other_upscaler(path, device, tile)
        else:
            raise UserError(f"{given}: expected a file that ends in {' or '.join(SUFFIXES)}")
    return found


def _focus(makers: Makers) -> str:
    """The model that the page's images are picked for: the last that is no plain enlargement."""
    own = [
        name
        for name in makers.order
        if name not in makers.methods
        or not str(makers.methods[name].about["kind"]).startswith("Pillow")
    ]
    return (own or makers.order)[-1]


def _described(tests: TestSet) -> str:
    fingerprints = [f"{k} {v[:12]}" for k, v in tests.data.items() if len(str(v)) == 64]
    kind = "HR and LR" if tests.has_hr else "LR alone, metrics without reference"
    return f"{tests.images} images, {kind}; SHA-256: {', '.join(fingerprints)}"
