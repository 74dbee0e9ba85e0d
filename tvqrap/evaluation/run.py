"""One evaluation: scores a test set, continues an earlier run, and writes all files."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tvqrap.evaluation.cases import PendingCase, score_cases
from tvqrap.evaluation.image_store import ImageStore
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.evaluation.report.contact_sheet import SheetRow, contact_sheet
from tvqrap.evaluation.report.page import REPORT, Page, write_report
from tvqrap.evaluation.report.table import score_table
from tvqrap.evaluation.results import Results
from tvqrap.evaluation.summary import METRICS_FILE, PER_IMAGE, SCORES, Summary, protocol
from tvqrap.evaluation.unfinished import IMAGES, ScoredImage, Unfinished
from tvqrap.images.save import save_png
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.progress import progress

SHEET = Path("pictures/sheet.png")
"""The contact sheet, in the folder of the results."""
RESULTS = (METRICS_FILE, SCORES, PER_IMAGE, REPORT, str(SHEET))
"""The files of an evaluation's folder."""
SHEET_SIDE = 1024
"""Images up to this side are on the contact sheet; the page shows parts of larger ones."""


@dataclass(frozen=True)
class TestSet:
    """The images to score."""

    images: int
    has_hr: bool
    cases: Iterable[PendingCase]
    data: Mapping[str, Any]
    """The data's fingerprints, by name."""
    notes: tuple[str, ...] = ()
    """Files or images that are not scored, a line each."""


@dataclass(frozen=True)
class Evaluation:
    """A test set with the models and metrics that score it."""

    tests: TestSet
    models: Mapping[str, Mapping[str, Any]]
    """By model, in their order: kind, fingerprint and all else that its images depend on."""
    scorer: Scorer
    confidence: float
    codebook: int | None = None
    """Entries of the codebook, where cases have codes."""

    def score(
        self,
        unfinished: Path,
        *,
        title: str = "evaluate",
        workers: int | None = None,
        overwrite: bool = False,
    ) -> Results:
        """Scores the images that no earlier run has scored in the folder `unfinished`.

        That folder holds the images too, and is the caller's to remove. Raises UserError where it
        holds another evaluation, unless `overwrite`, where there is no image, and where two have
        one name.
        """
        metrics = self.scorer.protocol()
        request = protocol(metrics, self.confidence, data=self.tests.data, models=self.models)
        log = Unfinished(unfinished, request, overwrite)
        done = {
            name: entry
            for name, entry in log.scored.items()
            if not entry.failed(self.scorer.missing)
        }
        store = ImageStore(unfinished / IMAGES, list(self.models))
        numbers: dict[str, int] = {}

        def pending() -> Iterator[PendingCase]:
            for number, case in enumerate(self.tests.cases):
                if case.image in numbers:
                    raise UserError(f"{case.image}: is there twice among the images, expected once")
                numbers[case.image] = number
                if case.image not in done:
                    yield case

        with progress(title, total=self.tests.images, unit="image", done=len(done)) as advance:
            for scored in score_cases(pending(), self.scorer, workers):
                number = numbers[scored.case.image]
                store.add(number, scored.case)
                entry = ScoredImage.of(number, scored, self.codebook)
                log.add(entry)
                done[entry.image] = entry
                advance()
        return Results(
            done.values(),
            self.scorer,
            self.confidence,
            store,
            codebook=self.codebook,
            notes=self.tests.notes,
        )


@dataclass(frozen=True)
class Report:
    """The files for people."""

    page: Page
    sheet: int
    """Photographs on the contact sheet, at most."""
    table: str
    """Title of the table on the terminal."""


def write_results(
    out: Path,
    results: Results,
    report: Report,
    *,
    data: Mapping[str, Any],
    models: Mapping[str, Any],
) -> Summary:
    """Writes scores, page and contact sheet to the folder `out`, and prints the table of scores."""
    summary = results.summary()
    about = results.protocol(data=data, models=models)
    write_report(out / REPORT, report.page, results, summary, about)
    write_sheet(out / SHEET, results, report.sheet)
    # Last: where metrics.json is, an evaluation counts as finished.
    results.write(out, summary, about)
    Console().print(score_table(summary, report.table, ceiling=report.page.ceiling))
    return summary


def write_sheet(path: Path, results: Results, limit: int) -> None:
    """Draws the first image of each photograph; no file where none has all pictures."""
    rows: dict[str, SheetRow] = {}
    columns = results.store.columns
    for entry in results.images:
        if len(rows) == limit:
            break
        if entry.photo in rows:
            continue
        pictures = results.store.pictures(entry.number)
        fits = all(max(picture.shape) <= SHEET_SIDE for picture in pictures.values())
        if fits and list(pictures) == columns:
            rows[entry.photo] = SheetRow(entry.image, list(pictures.values()))
    if rows:
        save_png(path, contact_sheet(columns, list(rows.values())))
    else:
        path.unlink(missing_ok=True)
