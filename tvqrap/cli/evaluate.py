"""`tvqrap-cli evaluate`: scores of upscalers and of finished images."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tvqrap.cli import evaluate_options as options
from tvqrap.cli.evaluation_sets import Models, from_folders, from_realsr, from_shards
from tvqrap.cli.options import Device, Overwrite
from tvqrap.cli.output_paths import check_folder_overwrite
from tvqrap.pretrained.packaged import model_path
from tvqrap.runtime.errors import UsageError, UserError
from tvqrap.runtime.text import printable

if TYPE_CHECKING:
    from tvqrap.comparison.methods import Method
    from tvqrap.config.evaluation import MetricName
    from tvqrap.evaluation.run import TestSet
    from tvqrap.evaluation.summary import Summary

BASELINES = ("bicubic", "lanczos")
DEFAULT_METRICS = "psnr_y,ssim_y,fsim,stlpips_vgg,stlpips_alex,piqe,grid"
CONFIDENCE = 0.95
SHEET = 6
"""Photographs on the contact sheet."""
LISTED = 10
"""Lines of failures, and of notes, on standard error."""
STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


def evaluate(
    models: options.Models = None,
    output: options.Results = None,
    gt: options.Gt = None,
    lq: options.Lq = None,
    pairs: options.Pairs = None,
    realsr: options.Realsr = None,
    metrics: options.MetricList = DEFAULT_METRICS,
    weights: options.Weights = None,
    device: Device = "auto",
    tile: options.Tile = 256,
    workers: options.Workers = None,
    compare: options.Compare = None,
    overwrite: Overwrite = False,
) -> None:
    """Score upscalers: metrics.json, scores.json, per_image.csv, report.html and pictures.

    A run that was stopped continues when the same command is given again.
    """
    _check_extra()
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
    _check_output(output, overwrite)
    if sum(source is not None for source in (gt or lq, pairs, realsr)) != 1:
        raise UsageError("expected one of --pairs, --realsr, or --gt and --lq")
    names = _metric_names(metrics)
    chosen = _chosen(models, device, tile, lr=gt is None or lq is not None, files=pairs is None)
    _check_outside(output, [path for path in (gt, lq, *chosen.finished.values()) if path])
    if pairs is not None:
        tests = from_shards(pairs, chosen)
    elif realsr is not None:
        tests = from_realsr(realsr, chosen)
    else:
        tests = from_folders(gt, lq, chosen)
    if not tests.has_hr:
        names = _without_hr(names, metrics != DEFAULT_METRICS)
    source = printable(str(pairs or realsr or gt or lq))
    _run(tests, chosen, names, weights, output, source, workers, overwrite)


def _check_output(output: Path, overwrite: bool) -> None:
    """Raises UserError where the folder holds results, or other files with their names."""
    from tvqrap.evaluation.run import RESULTS
    from tvqrap.evaluation.summary import METRICS_FILE
    from tvqrap.evaluation.unfinished import REQUEST, UNFINISHED

    # A run that was killed between two results left both.
    stopped = (output / UNFINISHED / REQUEST).is_file()
    names = (METRICS_FILE,) if stopped else RESULTS
    check_folder_overwrite(output, names, "results of an evaluation", overwrite)


def _check_outside(output: Path, images: Sequence[Path]) -> None:
    """Raises UsageError where a later run would take the results' pictures for images to score."""
    for folder in images:
        if output.resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                f"--output: found {output}, which lies in {folder}, a folder of scored images; "
                "expected one outside of it"
            )


def _check_extra() -> None:
    """Raises UserError where the extra `evaluation` is not installed."""
    for package in ("jinja2", "scipy"):
        if find_spec(package) is None:
            raise UserError(
                f"evaluate needs {package}, which is not installed: "
                "pip install 'tvqrap[evaluation]'"
            )


def _chosen(given: list[str], device: str, tile: int, *, lr: bool, files: bool) -> Models:
    """The models of the command line; `lr` and `files`: whether the set has LR, and is of files."""
    named = _named(given)
    upscalers, finished = _sort(named)
    if finished and not files:
        raise UsageError(f"{next(iter(finished.values()))}: finished images need --gt or --lq")
    if upscalers and not lr:
        raise UsageError("--lq is missing: upscalers need LR images")
    return Models(list(named), _methods(upscalers, device, tile), finished)


def _run(
    tests: "TestSet",
    models: Models,
    names: "list[MetricName]",
    weights: Path | None,
    output: Path,
    source: str,
    workers: int | None,
    overwrite: bool,
) -> None:
    from tvqrap.evaluation.metrics.scorer import Scorer
    from tvqrap.evaluation.report.page import Page
    from tvqrap.evaluation.results import check_complete
    from tvqrap.evaluation.run import Evaluation, Report, write_results
    from tvqrap.evaluation.unfinished import UNFINISHED, remove_unfinished

    scorer = Scorer(names, weights)
    for name, reason in scorer.missing.items():
        typer.echo(printable(f"{name}: missing: {reason}"), err=True)
    evaluation = Evaluation(tests, models.described(), scorer, CONFIDENCE)
    unfinished = output / UNFINISHED
    try:
        results = evaluation.score(unfinished, workers=workers, overwrite=overwrite)
    except KeyboardInterrupt:
        typer.echo(f"stopped; the same command continues from {unfinished}", err=True)
        raise typer.Exit(STOPPED) from None
    page = Page(f"Evaluation on {source}", _described(tests), _focus(models))
    summary = write_results(
        output,
        results,
        Report(page, SHEET, f"{tests.images} images"),
        data=tests.data,
        models=models.protocol(results.tiled),
    )
    remove_unfinished(unfinished)
    typer.echo(f"{output / 'report.html'}: the report", err=True)
    _list_problems(summary, results.notes, output / "scores.json")
    check_complete(summary, output)


def _list_problems(summary: "Summary", notes: "list[str]", scores: Path) -> None:
    from tvqrap.evaluation.report.failures import failure_lines

    for line in failure_lines(summary.failures, LISTED, str(scores)):
        typer.echo(printable(line), err=True)
    for note in notes[:LISTED]:
        typer.echo(printable(f"note: {note}"), err=True)
    if len(notes) > LISTED:
        typer.echo(f"note: {len(notes) - LISTED} more notes in {scores}", err=True)


def _metric_names(given: str) -> "list[MetricName]":
    from tvqrap.evaluation.metrics.registry import METRICS

    names = [name.strip() for name in given.split(",") if name.strip()]
    known: dict[str, MetricName] = {name: name for name in METRICS}
    for name in names:
        if name not in known:
            raise UsageError(f"--metrics: {name!r} is not known, expected {', '.join(METRICS)}")
    if not names:
        raise UsageError(f"--metrics: none given, expected {', '.join(METRICS)}")
    return [known[name] for name in dict.fromkeys(names)]


def _without_hr(names: "list[MetricName]", chosen: bool) -> "list[MetricName]":
    """The metrics that need no HR; others raise UsageError where they were `chosen` by name."""
    from tvqrap.evaluation.metrics.registry import METRICS, without_reference

    kept = without_reference(names)
    dropped = [name for name in names if name not in kept]
    if dropped and chosen:
        raise UsageError(
            f"--metrics: {', '.join(dropped)} need HR images, which are not given; expected "
            f"{', '.join(without_reference(METRICS))}"
        )
    if dropped:
        typer.echo(f"LR images alone: {', '.join(dropped)} need HR and are left out", err=True)
    return kept


def _named(models: list[str]) -> dict[str, str]:
    """The models by name: NAME= if given, or else the last part of the path where it is unique."""
    pairs = []
    for given in models:
        name, equals, path = given.partition("=")
        named = bool(equals and name and path and "/" not in name)
        pairs.append((name, path) if named else ("", given))
    short = [printable(name or Path(given).name) for name, given in pairs]
    found: dict[str, str] = {}
    for (given_name, given), name in zip(pairs, short, strict=True):
        name = printable(given_name) or (name if short.count(name) == 1 else printable(given))
        if name in found:
            raise UsageError(f"{name}: is given twice")
        if name in ("LR", "LR, bicubic", "HR"):
            raise UsageError(f"{name}: is a name of the page's own images, expected another name")
        found[name] = given
    return found


def _sort(named: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Path]]:
    """Separates upscalers from folders of finished images."""
    upscalers: dict[str, str] = {}
    finished: dict[str, Path] = {}
    for name, given in named.items():
        path = model_path(given)
        if given in BASELINES or path.is_file() or (path / "model.json").is_file():
            upscalers[name] = given if given in BASELINES else str(path)
        elif path.is_dir():
            finished[name] = path
        else:
            raise UserError(
                f"{printable(given)}: expected {' or '.join(BASELINES)}, a model folder, a file of "
                "weights or a folder of images"
            )
    return upscalers, finished


def _methods(upscalers: Mapping[str, str], device: str, tile: int) -> "dict[str, Method]":
    if not upscalers:
        return {}
    if tile < 64 or tile % 64:
        raise UsageError(f"--tile: found {tile}, expected a multiple of 64")

    from tvqrap.comparison.methods import baseline, model_folder
    from tvqrap.comparison.spandrel import other_upscaler
    from tvqrap.pretrained.other import SUFFIXES
    from tvqrap.pretrained.single_file import is_single_file
    from tvqrap.runtime.device import select_device

    chosen = select_device(device, "--device")
    found: dict[str, Method] = {}
    for name, given in upscalers.items():
        path = Path(given)
        if given == "bicubic":
            found[name] = baseline("bicubic")
        elif given == "lanczos":
            found[name] = baseline("lanczos")
        elif path.is_dir() or is_single_file(path):
            try:
                found[name] = model_folder(path, chosen, tile)
            except ValueError as error:
                raise UsageError(f"--{error} for {given}") from None
        elif path.suffix.lower() in SUFFIXES:
            found[name] = other_upscaler(path, chosen, tile)
        else:
            raise UserError(f"{given}: expected a file that ends in {' or '.join(SUFFIXES)}")
    return found


def _focus(models: Models) -> str:
    """The model by whose scores the page picks images: the last one that is no baseline."""
    own = [
        name
        for name in models.order
        if name not in models.methods
        or not str(models.methods[name].about["kind"]).startswith("Pillow")
    ]
    return (own or models.order)[-1]


def _described(tests: "TestSet") -> str:
    fingerprints = [f"{k} {v[:12]}" for k, v in tests.data.items() if len(str(v)) == 64]
    kind = "HR and LR" if tests.has_hr else "LR alone, metrics without reference"
    return f"{tests.images} images, {kind}; SHA-256: {', '.join(fingerprints)}"
