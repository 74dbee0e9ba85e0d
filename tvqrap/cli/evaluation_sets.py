"""The test sets of `evaluate`: pair shards, folders, RealSR, LR images alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvqrap.cli.shard_sets import trust_params
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.shards.tar import Sample
    from tvqrap.comparison.folders import Matched, MatchedSet
    from tvqrap.comparison.methods import Method
    from tvqrap.evaluation.cases import Case, PendingCase
    from tvqrap.evaluation.run import TestSet


@dataclass(frozen=True)
class Models:
    """The models of an evaluation: methods that upscale, and folders of finished images."""

    order: list[str]
    methods: "Mapping[str, Method]"
    finished: Mapping[str, Path]
    fingerprints: dict[str, str] = field(default_factory=dict)
    """By model: SHA-256 of the finished images' files."""

    def made(self, name: str, lr: "NDArray[np.uint8] | str") -> "NDArray[np.uint8] | str":
        """The image that a method makes of LR, or the reason why there is none."""
        return lr if isinstance(lr, str) else self.methods[name].made(lr)

    def tiled(self, lr: "NDArray[np.uint8] | str") -> tuple[str, ...]:
        """The methods that upscale LR in tiles."""
        if isinstance(lr, str):
            return ()
        return tuple(n for n, method in self.methods.items() if method.tiles(*lr.shape[:2]))

    def described(self) -> dict[str, dict[str, Any]]:
        """By model: all that its images depend on."""
        return {name: self._described(name) for name in self.order}

    def protocol(self, tiled: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        """By model: its description in a result, after `tiled` images were upscaled in tiles."""
        return {
            name: self.methods[name].protocol(tiled.get(name, 0))
            if name in self.methods
            else self._described(name)
            for name in self.order
        }

    def _described(self, name: str) -> dict[str, Any]:
        if name in self.methods:
            method = self.methods[name]
            return {**method.about, "tile": method.tile, "overlap": method.overlap}
        return {"kind": "finished images", "fingerprint": self.fingerprints[name]}


def from_shards(folder: Path, models: Models) -> "TestSet":
    """The pairs of a set of shards. Raises UserError for another kind of set."""
    from pipeline.shards.manifest import Manifest
    from pipeline.shards.tar import read_shard
    from tvqrap.evaluation.cases import PendingCase
    from tvqrap.evaluation.run import TestSet

    trust_params()
    manifest = Manifest.load(folder)
    if manifest.kind != "pairs":
        raise UserError(f"{folder}: holds {manifest.kind}, expected pairs")

    def cases() -> "Iterator[PendingCase]":
        for row in manifest.shards:
            for sample in read_shard(manifest.home(folder) / row.name, row.sha256):
                yield PendingCase(sample.key, partial(_shard_case, sample, models))

    data = {"set": manifest.set, "pairs": manifest.root, "images": manifest.samples}
    return TestSet(manifest.samples, True, cases(), data)


def _shard_case(sample: "Sample", models: Models) -> "Case":
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
        if not isinstance(photo, str):
            raise TypeError
    except (KeyError, ValueError, TypeError, RecursionError):
        reason = f"{sample.key}: has no json that names its photo"
        return Case(sample.key, sample.key, None, None, dict.fromkeys(models.order, reason))
    return Case(
        sample.key,
        printable(photo),
        None if isinstance(hr, str) else hr,
        None if isinstance(lr, str) else lr,
        {name: models.made(name, lr) for name in models.order},
        no_hr=hr if isinstance(hr, str) else "",
        tiled=models.tiled(lr),
    )


def from_folders(gt: Path | None, lq: Path | None, models: Models) -> "TestSet":
    """HR and LR in folders of equal names, or one of the two alone."""
    from tvqrap.comparison.folders import match_folders

    return _of_files(match_folders(gt, lq, models.finished), models)


def from_realsr(folder: Path, models: Models) -> "TestSet":
    """The test images of scale 4 of RealSR V3 as released."""
    from tvqrap.comparison.folders import match_realsr

    return _of_files(match_realsr(folder, models.finished), models)


def _of_files(matched: "MatchedSet", models: Models) -> "TestSet":
    from tvqrap.comparison.folders import fingerprint
    from tvqrap.evaluation.cases import PendingCase
    from tvqrap.evaluation.run import TestSet

    images = matched.images
    data: dict[str, Any] = {"images": len(images)}
    has_hr = images[0].hr is not None
    if has_hr:
        data["gt"] = fingerprint([files.hr for files in images if files.hr is not None])
    if images[0].lr is not None:
        data["lq"] = fingerprint([files.lr for files in images if files.lr is not None])
    for name in models.finished:
        models.fingerprints[name] = fingerprint([files.finished[name] for files in images])
    cases = (PendingCase(files.name, partial(_file_case, files, models)) for files in images)
    return TestSet(len(images), has_hr, cases, data, matched.notes)


def _file_case(files: "Matched", models: Models) -> "Case":
    from tvqrap.comparison.reading import ScoredFile, read_scored
    from tvqrap.evaluation.cases import Case

    hr = ScoredFile("no HR") if files.hr is None else read_scored(files.hr)
    lr = ScoredFile("no LR") if files.lr is None else read_scored(files.lr)
    finished = {name: read_scored(path) for name, path in files.finished.items()}
    return Case(
        image=files.name,
        photo=files.name,
        hr=None if isinstance(hr.pixels, str) else hr.pixels,
        lr=None if isinstance(lr.pixels, str) else lr.pixels,
        made={
            name: finished[name].pixels if name in finished else models.made(name, lr.pixels)
            for name in models.order
        },
        no_hr=hr.pixels if isinstance(hr.pixels, str) and files.hr is not None else "",
        tiled=models.tiled(lr.pixels),
        notes=tuple(read.note for read in (hr, lr, *finished.values()) if read.note),
    )
