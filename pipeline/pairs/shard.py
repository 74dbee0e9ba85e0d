"""One shard of pairs, as a worker makes it: photographs decoded, cut, degraded, encoded."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass as document

from pipeline.config import DataSettings, DegradationSettings, SetSettings
from pipeline.executor.shards import Maker
from pipeline.executor.shared_storage import FilesProof, WrittenProof
from pipeline.pairs.crops import cut
from pipeline.pairs.degradation import degrade, draw_preset
from pipeline.pairs.plan import PairShardTask, PlannedSample
from pipeline.pairs.toolchain import Toolchain
from pipeline.rng import random_stream
from pipeline.shards.codec import encode_png
from pipeline.shards.index import write_indexed
from pipeline.shards.manifest import SCHEMA, STRICT, ShardRow
from pipeline.shards.tar import Sample
from pipeline.sources.photos import Photo, UnusableError, content_of, content_sha256, decode
from pipeline.storage.location import Location
from pipeline.teacher import Teach, Teacher
from tvqrap.runtime.errors import UserError

DECODED_BYTES = 256 * 2**20
"""Decoded photographs that a worker keeps from one shard to the next."""


@document(frozen=True, config=STRICT)
class PairShard:
    """A finished shard of pairs."""

    row: ShardRow
    machine: Toolchain
    """The libraries and CPU features that made it."""


@dataclass(frozen=True)
class PairMaker:
    """Makes, in each worker, the function that turns a task into a shard."""

    name: str
    """Name of the set."""
    seed: int
    data: DataSettings
    settings: SetSettings
    degradations: Mapping[str, DegradationSettings]
    """The presets that the set draws from."""
    teacher: Teacher | None
    out: Location
    photos: FilesProof
    """Proves that workers read the photographs that the driver read."""
    storage: WrittenProof
    """Proves that workers write where the driver does."""

    @property
    def decisive(self) -> str:
        """Everything that decides the bytes of every shard, besides its samples, code and
        machine."""
        return repr(
            (
                SCHEMA,
                self.name,
                self.seed,
                # The count and the split decide which samples there are, not what they are.
                self.settings.model_dump_json(exclude={"count", "split"}),
                [[name, chosen.model_dump_json()] for name, chosen in self.degradations.items()],
                self.teacher and (self.teacher.fingerprint, self.teacher.precision),
            )
        )

    def __call__(self) -> Maker[PairShardTask, PairShard]:
        """Checks the storage and loads the teacher, once per worker."""
        self.photos.check()
        self.storage.check()
        teach = self.teacher.load() if self.teacher else None
        photos = _Photographs(Path(self.data.photos).resolve(), self.data)
        toolchain = Toolchain.here(teacher=teach is not None)
        return toolchain, partial(self._make, photos, teach, toolchain)

    def _make(
        self,
        photos: "_Photographs",
        teach: Teach | None,
        toolchain: Toolchain,
        task: PairShardTask,
    ) -> PairShard:
        self.storage.check()  # again: a folder that vanished would be made anew
        made: dict[str, Sample] = {}
        for planned in sorted(task.samples, key=lambda sample: sample.key):
            pixels = photos.pixels(planned.entry.photo, planned.entry.sha256)
            made[planned.key] = self._sample(planned, pixels, teach)
        row = write_indexed(self.out / task.name, (made[planned.key] for planned in task.samples))
        return PairShard(replace(row, plan=task.plan), toolchain)

    def _sample(self, planned: PlannedSample, photo: np.ndarray, teach: Teach | None) -> Sample:
        settings = self.settings
        crop = planned.crop(self.name, self.seed, settings)
        hr = cut(photo, settings.crop_mode, settings.size, crop)
        members = {"hr.png": encode_png(hr)}
        records: list[Any] = []
        presets: list[str] = []
        for variant in range(settings.variants):
            identity = (self.name, "degrade", planned.entry.photo.key, planned.index, variant)
            rng = random_stream(self.seed, *identity, *(["mirror"] if planned.mirror else []))
            preset = draw_preset(settings.presets, rng)
            degraded = degrade(hr, self.degradations[preset], rng)
            members[f"lr{variant}.png"] = encode_png(degraded.image)
            records.append(degraded.record)
            presets.append(preset)
            if teach is not None:
                member = "hr.png" if settings.target == "teacher" else f"teacher{variant}.png"
                members[member] = encode_png(teach(degraded.image))
        about = {
            "photo": planned.entry.photo.name,
            "crop_mode": settings.crop_mode,
            "crop": planned.index,
            "box": planned.box(crop, settings),
            "flip": crop.flip,
            "channels": crop.channels,
            "degradations": records,
        }
        if len(settings.presets) > 1:
            about["presets"] = presets
        members["json"] = json.dumps(about, separators=(",", ":"), ensure_ascii=False).encode()
        return Sample(planned.key, members)


@dataclass
class _Photographs:
    """Decoded photographs; the last ones used are kept."""

    folder: Path
    settings: DataSettings
    _decoded: OrderedDict[Photo, np.ndarray] = field(default_factory=OrderedDict)

    def pixels(self, photo: Photo, sha256: str) -> np.ndarray:
        """uint8 (H, W, 3). UserError where it is gone, or has another SHA-256."""
        decoded = self._decoded
        if photo not in decoded:
            place = photo.locator or self.folder / photo.name
            try:
                content = content_of(self.folder, photo)
            except UnusableError as error:
                raise UserError(f"{place}: {error}") from None
            if (found := content_sha256(content)) != sha256:
                raise UserError(
                    f"{place}: found SHA-256 {found[:12]}, expected {sha256[:12]}, which it had "
                    "when the photographs were scanned"
                )
            image = decode(content, self.settings)
            kept = sum(image.nbytes for image in decoded.values())
            while decoded and kept + image.nbytes > DECODED_BYTES:
                kept -= decoded.popitem(last=False)[1].nbytes
            decoded[photo] = image
        decoded.move_to_end(photo)
        return decoded[photo]
