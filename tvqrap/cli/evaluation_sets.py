"""What `evaluate` scores on: pair shards, folders, RealSR, LR images alone."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tvqrap.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.shards.tar import Sample
    from tvqrap.comparison.folders import Matched
    from tvqrap.comparison.methods import Method
    from tvqrap.evaluation.cases import Case


@dataclass(frozen=True)
class TestSet:
    """Cases that are still to be made, and what they are made of."""

    images: int
    has_hr: bool
    cases: "Iterator[Callable[[], Case]]"
    data: dict[str, Any]
    """Names the data by fingerprints."""


class Makers:
    """Makes a case's images, and counts those that took tiles."""

    def __init__(
        self, order: list[str], methods: "Mapping[str, Method]", finished: Mapping[str, Path]
    ) -> None:
        self.order = order
        self.methods = methods
        self.finished = finished
        self.fingerprints: dict[str, str] = {}
        """Of the finished images' files."""
        self._tiled = dict.fromkeys(methods, 0)
        self._lock = Lock()

    def from_lr(self, name: str, lr: "NDArray[np.uint8] | str") -> "NDArray[np.uint8] | str":
        """What a method makes of LR, or why there is nothing."""
        if isinstance(lr, str):
            return lr
        method = self.methods[name]
        if method.tiles(*lr.shape[:2]):
            with self._lock:
                self._tiled[name] += 1
        return method.made(lr)

    def protocol(self) -> dict[str, Any]:
        """By model: what a result says of it."""
        return {
            name: (
                self.methods[name].protocol(self._tiled[name])
                if name in self.methods
                else {"kind": "finished images", "fingerprint": self.fingerprints[name]}
            )
            for name in self.order
        }


def from_shards(folder: Path, makers: Makers) -> TestSet:
    """The pairs of a set of shards. Raises UserError for another kind of set."""
    from pipeline.shards.manifest import Manifest
    from pipeline.shards.tar import read_shard

    manifest = Manifest.load(folder)
    if manifest.kind != "pairs":
        raise UserError(f"{folder}: holds {manifest.kind}, expected pairs")

    def cases() -> "Iterator[Callable[[], Case]]":
        for row in manifest.shards:
            for sample in read_shard(manifest.home(folder) / row.name):
                yield partial(_shard_case, sample, makers)

    data = {"set": manifest.set, "pairs": manifest.root, "images": manifest.samples}
    return TestSet(manifest.samples, True, cases(), data)


def _shard_case(sample: "Sample", makers: Makers) -> "Case":
    import json

    from pipeline.shards.codec import decode_png
    from tvqrap.evaluation.cases import Case

    def decoded(member: str) -> "NDArray[np.uint8] | str":
        try:
            return decode_png(sample.members[member])
        except KeyError:
            return f"{sample.key}: has no {member}"
        except ValueError as error:
            return f"{sample.key}: {member}: {error}"

    lr, hr = decoded("lr0.png"), decoded("hr.png")
    try:
        photo = json.loads(sample.members["json"])["photo"]
    except (KeyError, ValueError):
        reason = f"{sample.key}: has no json that names its photo"
        return Case(sample.key, sample.key, None, None, dict.fromkeys(makers.order, reason))
    return Case(
        sample.key,
        photo,
        None if isinstance(hr, str) else hr,
        None if isinstance(lr, str) else lr,
        {name: makers.from_lr(name, lr) for name in makers.order},
        no_hr=hr if isinstance(hr, str) else "",
    )


def from_folders(gt: Path | None, lq: Path | None, makers: Makers) -> TestSet:
    """HR and LR in folders of equal names; either alone where that is enough."""
    from tvqrap.comparison.folders import match_folders

    return _of_files(match_folders(gt, lq, makers.finished), makers)


def from_realsr(folder: Path, makers: Makers) -> TestSet:
    """The test images of scale 4 of RealSR V3 as released."""
    from tvqrap.comparison.folders import match_realsr

    return _of_files(match_realsr(folder, makers.finished), makers)


def _of_files(matched: "tuple[Matched, ...]", makers: Makers) -> TestSet:
    from tvqrap.comparison.folders import fingerprint

    data: dict[str, Any] = {"images": len(matched)}
    has_hr = matched[0].hr is not None
    if has_hr:
        data["gt"] = fingerprint([files.hr for files in matched if files.hr is not None])
    if matched[0].lr is not None:
        data["lq"] = fingerprint([files.lr for files in matched if files.lr is not None])
    for name in makers.finished:
        makers.fingerprints[name] = fingerprint([files.finished[name] for files in matched])
    cases = (partial(_file_case, files, makers) for files in matched)
    return TestSet(len(matched), has_hr, cases, data)


def _file_case(files: "Matched", makers: Makers) -> "Case":
    from tvqrap.comparison.reading import Read, read_scored
    from tvqrap.evaluation.cases import Case

    nothing = Read("no LR")
    hr = None if files.hr is None else read_scored(files.hr)
    lr = nothing if files.lr is None else read_scored(files.lr)
    made: dict[str, NDArray[np.uint8] | str] = {}
    notes = [read.note for read in (hr, lr) if read is not None and read.note]
    for name in makers.order:
        if name in makers.finished:
            read = read_scored(files.finished[name])
            made[name] = read.pixels
            notes += [read.note] if read.note else []
        else:
            made[name] = makers.from_lr(name, lr.pixels)
    hr_pixels = None if hr is None else hr.pixels
    return Case(
        image=files.name,
        photo=files.name,
        hr=None if isinstance(hr_pixels, str) else hr_pixels,
        lr=None if isinstance(lr.pixels, str) else lr.pixels,
        made=made,
        no_hr=hr_pixels if isinstance(hr_pixels, str) else "",
        notes=tuple(notes),
    )
