"""Turns pair shards into token shards: threads read and write while the worker encodes."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as document

from pipeline.config import TokensSettings
from pipeline.executor.prefetch import prefetch
from pipeline.executor.shards import Maker
from pipeline.executor.shared_storage import ManifestProof, WrittenProof
from pipeline.shards.codec import encode_array
from pipeline.shards.index import write_indexed
from pipeline.shards.manifest import SCHEMA, STRICT, Manifest, ShardRow, Skipped
from pipeline.shards.tar import Sample, read_shard
from pipeline.storage.location import Location, file_sizes
from pipeline.tokens.quarantine import BadSampleError, quarantine
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.hardware import Machine

if TYPE_CHECKING:  # it imports torch
    from pipeline.tokens.encode import Encoder

BATCHES_AHEAD = 2
"""Batches that are read and decoded before the encoder asks for them."""

IN_FLIGHT = 3
"""Shards that a worker has at once: one is read, one is encoded, one is written."""


@document(frozen=True, config=STRICT)
class ExtractedShard:
    """A finished token shard."""

    row: ShardRow
    code_counts: tuple[int, ...]
    """How often each code occurs in the shard."""
    dropped: tuple[Skipped, ...]
    """Samples of the pair shard that could not be used: key and reason."""
    machine: Machine
    """The machine that made the shard."""


@dataclass(frozen=True)
class Extractor:
    """Makes, in each worker, the function that turns a pair shard into a token shard."""

    tokenizer: Location
    """Its model folder."""
    fingerprint: str
    """The fingerprint of the driver's tokenizer; a worker with another one raises `UserError`."""
    pairs: Location
    """Folder of the pair shards, with their manifest."""
    pairs_root: str
    """The root of the manifest that the driver read."""
    out: Location
    """Folder of the token shards."""
    quarantine: Location
    """Folder for samples that cannot be used."""
    settings: TokensSettings
    storage: WrittenProof
    """Proof that workers write to the driver's storage."""

    def __call__(self) -> Maker[ShardRow, ExtractedShard]:
        """Loads the tokenizer, once per worker."""
        self.storage.check()
        ManifestProof(self.pairs, self.pairs_root).check()
        from pipeline.tokens.encode import Encoder, pair_images

        with _on_disk(self.tokenizer) as folder:
            encoder = Encoder(folder, self.fingerprint, self.settings)
        images = pair_images(Manifest.load(self.pairs))
        return encoder.machine, partial(self._extract, encoder, Lock(), images)

    def _extract(
        self, encoder: "Encoder", turn: Lock, images: Mapping[str, int], source: ShardRow
    ) -> ExtractedShard:
        """Encodes in this thread; others read and decode the next crops and write the tokens.

        Several threads may call it. One at a time has its `turn` with the encoder, for a whole
        shard. Meanwhile the others read the first crops of theirs, or write the last tokens.
        """
        from pipeline.tokens.encode import batches

        self.storage.check()  # again: a folder that vanished would be made anew
        shard = _TokenShard(self, source, encoder.architecture.codebook, encoder.machine)
        pairs = shard.numbered(read_shard(self.pairs / source.name, source.sha256))
        crops = batches(
            pairs,
            self.settings.batch_size,
            multiple=encoder.architecture.hr_multiple,
            images=images,
            on_bad=shard.drop,
            threads=self.settings.threads,
        )
        encoded: Queue[_Encoded | BaseException | None] = Queue()
        with closing(prefetch(crops, BATCHES_AHEAD)) as prepared, ThreadPoolExecutor(1) as pool:
            row = pool.submit(write_indexed, self.out / source.name, shard.samples(encoded))
            try:
                first = list(islice(prepared, 1))  # before its turn
                with turn:
                    for batch in chain(first, prepared):
                        if row.done():
                            break  # the writing thread failed
                        encoded.put(_Encoded([crop.sample for crop in batch], *encoder(batch)))
            except BaseException as error:
                encoded.put(error)
                raise
            encoded.put(None)
            written = replace(row.result(), source=source.sha256, plan=plan_of(self, source))
        made = shard.finished(written)
        check_complete(self.pairs / source.name, source.samples, [made])
        return made


@contextmanager
def _on_disk(folder: Location) -> Iterator[Path]:
    """A model folder as a path; a folder in a store is copied to disk while the block runs."""
    if isinstance(folder, Path):
        yield folder
        return
    with TemporaryDirectory() as temporary:
        for name in file_sizes(folder):
            (Path(temporary) / name).write_bytes((folder / name).read_bytes())
        yield Path(temporary)


@dataclass(frozen=True)
class _Encoded:
    """A batch of pairs and the tokens of their HR crops."""

    pairs: list[Sample]
    structures: NDArray[np.float32] | None
    codes: NDArray[np.int64]


class _TokenShard:
    """The state of a token shard in progress, shared by the reading and writing threads."""

    def __init__(
        self, extractor: Extractor, source: ShardRow, codebook: int, machine: Machine
    ) -> None:
        self._extractor = extractor
        self._source = source
        self._counts = np.zeros(codebook, dtype=np.int64)
        self._positions: dict[str, int] = {}
        self._dropped: list[Skipped] = []
        self._machine = machine

    def numbered(self, pairs: Iterable[Sample]) -> Iterator[Sample]:
        """The samples; records the position of each in the pair shard."""
        for position, sample in enumerate(pairs):
            self._positions[sample.key] = position
            yield sample

    def drop(self, sample: Sample, error: BadSampleError) -> None:
        """Puts a sample that cannot be used into the quarantine."""
        quarantine(self._extractor.quarantine, self._source.name, sample, error)
        self._dropped.append(Skipped(sample.key, str(error)))

    def samples(self, encoded: "Queue[_Encoded | BaseException | None]") -> Iterator[Sample]:
        """Token samples of the encoded batches, up to None; raises an error that comes instead."""
        from pipeline.tokens.encode import half_structure

        made = 0
        while (batch := encoded.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            for index, pair in enumerate(batch.pairs):
                codes = batch.codes[index]
                try:
                    structures = batch.structures
                    half = None if structures is None else half_structure(structures[index])
                except BadSampleError as error:
                    self.drop(pair, error)
                    continue
                self._counts += np.bincount(codes.ravel(), minlength=len(self._counts))
                made += 1
                yield _token_sample(pair, codes, half)
        if self._dropped and not made:
            first = self._in_order()[0]
            raise UserError(
                f"{self._extractor.pairs / self._source.name}: none of its {len(self._dropped)} "
                f"samples can be used, the first ({first.name}): {first.reason}"
            )

    def finished(self, row: ShardRow) -> ExtractedShard:
        """The finished shard, once it is written as `row`."""
        counts = tuple(self._counts.tolist())
        return ExtractedShard(row, counts, self._in_order(), self._machine)

    def _in_order(self) -> tuple[Skipped, ...]:
        """Dropped samples in the order of the pair shard: two threads drop them in any order."""
        return tuple(sorted(self._dropped, key=lambda skipped: self._positions[skipped.name]))


def _token_sample(
    pair: Sample, codes: NDArray[np.int64], structure: NDArray[np.float16] | None
) -> Sample:
    members = {suffix: data for suffix, data in pair.members.items() if is_carried(suffix)}
    members["codes.npy"] = encode_array(codes.astype(np.uint16))
    if structure is not None:
        members["structure.npy"] = encode_array(structure)
    return Sample(pair.key, members)


def is_carried(suffix: str) -> bool:
    """Whether a member of a pair goes into its token sample: all but the HR-sized pictures."""
    return not suffix.startswith(("hr.", "teacher"))


def plan_of(extractor: Extractor, source: ShardRow) -> str:
    """SHA-256 (hex) over everything but the code that decides a token shard's bytes.

    It leaves out the pair shard's name, which changes with the number of shards before it.
    """
    settings = extractor.settings.model_dump(include={"device", "batch_size", "threads"})
    decisive = (SCHEMA, extractor.fingerprint, source.samples, source.sha256, settings)
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def check_complete(path: Location, expected: int, shards: Iterable[ExtractedShard]) -> None:
    """Raises `UserError` where samples out and samples dropped are not the samples in."""
    found = [(shard.row.samples, len(shard.dropped)) for shard in shards]
    out, dropped = sum(row[0] for row in found), sum(row[1] for row in found)
    if out + dropped != expected:
        raise UserError(
            f"{path}: {out} samples extracted and {dropped} dropped, its manifest says {expected}"
        )
