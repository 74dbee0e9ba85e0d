"""The extraction of a token data set: each pair shard becomes a token shard, exactly once.

A token shard has its pair shard's name and keys. Tokens depend on the HR crop alone, so one
extraction serves every LR variant; the variants are carried along, so that stage 2 reads nothing
but the token data set. Per shard and in total, samples in are samples out and samples dropped.
"""

import hashlib
import json
import socket
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset_lock import only_driver
from pipeline.executor import Place, run_tasks
from pipeline.quarantine import PoisonError, quarantine
from pipeline.settings import TokensSettings
from pipeline.shards import (
    SCHEMA,
    Lost,
    Manifest,
    Sample,
    ShardRow,
    encode_array,
    read_shard,
    write_shard,
)
from pipeline.tokens import code_statistics
from tvqrap.errors import UserError
from tvqrap.files import write_whole
from tvqrap.model_folder import read_card


class ShardsFailed(UserError):
    """Some shards of a set could not be made; the message lists them. The others are finished."""


@dataclass(frozen=True)
class ExtractedShard:
    """A finished token shard."""

    row: ShardRow
    code_counts: tuple[int, ...]
    """How often each code occurs in it."""
    dropped: tuple[Lost, ...]
    """Samples of the pair shard that are not in it: key and reason."""


@dataclass(frozen=True)
class Extractor:
    """Makes, in each worker, the function that turns a pair shard into a token shard."""

    tokenizer: Path
    fingerprint: str
    """Of the tokenizer that the driver read: a worker that reads another one refuses."""
    pairs: Path
    out: Path
    quarantine: Path
    """Folder for samples that cannot be used."""
    settings: TokensSettings
    storage: str
    """What the file `storage_proof` holds: a worker that reads something else has other storage."""

    @property
    def storage_proof(self) -> Path:
        """Written by the driver beside `out`."""
        return self.out.with_name(f"{self.out.name}.storage")

    def __call__(self) -> Callable[[ShardRow], ExtractedShard]:
        """Loads the tokenizer, once per worker."""
        self._check_storage()
        from pipeline.token_encoding import Encoder, batches, half_structure

        encoder = Encoder(self.tokenizer, self.fingerprint, self.settings)
        codebook, multiple = encoder.architecture.codebook, encoder.architecture.hr_multiple

        def extract(source: ShardRow) -> ExtractedShard:
            self._check_unchanged(source)
            counts = np.zeros(codebook, dtype=np.int64)
            made: list[Sample] = []
            dropped: list[Lost] = []

            def drop(sample: Sample, error: PoisonError) -> None:
                quarantine(self.quarantine, source.name, sample, error)
                dropped.append(Lost(sample.key, str(error)))

            pairs = read_shard(self.pairs / source.name)
            for batch in batches(pairs, self.settings.batch, multiple, drop):
                structures, codes = encoder(batch)
                for index, crop in enumerate(batch):
                    structure = None if structures is None else structures[index]
                    try:
                        half = None if structure is None else half_structure(structure)
                    except PoisonError as error:
                        drop(crop.sample, error)
                        continue
                    counts += np.bincount(codes[index].ravel(), minlength=codebook)
                    made.append(_token_sample(crop.sample, codes[index], half))
            if dropped and not made:
                raise UserError(
                    f"{self.pairs / source.name}: none of its {len(dropped)} samples can be used, "
                    f"the first ({dropped[0].name}): {dropped[0].reason}"
                )
            row = write_shard(self.out / source.name, made)
            return ExtractedShard(row, tuple(counts.tolist()), tuple(dropped))

        return extract

    def _check_storage(self) -> None:
        try:
            found = self.storage_proof.read_text()
        except OSError as error:
            found = str(error.strerror or error)
        if found != self.storage:
            raise UserError(
                f"{socket.gethostname()} does not see the driver's {self.storage_proof} ({found}), "
                "expected storage that all nodes share, at the same path"
            )

    def _check_unchanged(self, source: ShardRow) -> None:
        path = self.pairs / source.name
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{path}: not readable ({error.strerror or error})") from None
        if found != source.sha256:
            raise UserError(
                f"{path}: found SHA-256 {found[:12]}, its manifest says {source.sha256[:12]}"
            )


def _token_sample(
    pair: Sample, codes: NDArray[np.int64], structure: NDArray[np.float16] | None
) -> Sample:
    members = {suffix: data for suffix, data in pair.members.items() if suffix != "hr.png"}
    members["codes.npy"] = encode_array(codes.astype(np.uint16))
    if structure is not None:
        members["structure.npy"] = encode_array(structure)
    return Sample(pair.key, members)


def extract_set(
    pairs: Path,
    tokenizer: Path,
    work: Path,
    settings: TokensSettings,
    *,
    place: Place,
    workers: int,
    quarantine: Path | None = None,
    on_shard: Callable[[int], None] = lambda samples: None,
) -> Manifest:
    """Extracts the tokens of one set into `work/SET`, going on from the shards finished there.

    `work/rows/SET` keeps a row for each finished shard; one of other pairs, another tokenizer or
    other settings counts for nothing. `on_shard` hears of each finished shard's samples, dropped
    ones included. Samples that cannot be used are kept in `quarantine/SET`
    (`work/quarantine/SET` if not given) and listed in the manifest.
    Raises `ShardsFailed` that lists the shards that failed, and `UserError` where another driver
    is at work on the set.
    """
    source = Manifest.load(pairs)
    with only_driver(work / f"{source.set}.lock"):
        return _extract_set(
            source,
            Extractor(
                tokenizer.resolve(),
                read_card(tokenizer).fingerprint,
                pairs.resolve(),
                (work / source.set).resolve(),
                ((quarantine or work / "quarantine") / source.set).resolve(),
                settings,
                storage=uuid.uuid4().hex,
            ),
            work / "rows" / source.set,
            place,
            workers,
            on_shard,
        )


def _extract_set(
    source: Manifest,
    extractor: Extractor,
    rows: Path,
    place: Place,
    workers: int,
    on_shard: Callable[[int], None],
) -> Manifest:
    for folder in (extractor.out, rows):
        folder.mkdir(parents=True, exist_ok=True)
    done: dict[str, ExtractedShard] = {}
    for row in source.shards:
        finished = _finished(_row_file(rows, row), extractor.out / row.name, _plan(extractor, row))
        if finished is not None:
            done[row.name] = finished
            on_shard(row.samples)
    _sweep(extractor.out, done)
    _sweep(rows, (_row_file(rows, row).name for row in source.shards if row.name in done))
    missing = [row for row in source.shards if row.name not in done]
    write_whole(extractor.storage_proof, extractor.storage)

    def keep(index: int, shard: ExtractedShard) -> None:
        expected = missing[index]
        _check_complete(extractor.pairs / expected.name, expected.samples, [shard])
        content = {"plan": _plan(extractor, expected), **asdict(shard)}
        write_whole(_row_file(rows, expected), json.dumps(content))
        done[expected.name] = shard
        on_shard(expected.samples)

    failures = run_tasks(
        extractor,
        missing,
        place=place,
        workers=workers,
        on_result=keep,
        cpus=extractor.settings.threads,
        gpus=1 if extractor.settings.device == "cuda" else 0,
    )
    if failures:
        named = "; ".join(f"{missing[each.index].name}: {each.error}" for each in failures)
        raise ShardsFailed(
            f"{extractor.pairs}: {len(failures)} of {len(missing)} shards failed: {named}"
        )
    shards = [done[row.name] for row in source.shards]
    _check_complete(extractor.pairs, source.samples, shards)
    manifest = _manifest(source, extractor, shards)
    manifest.save(extractor.out)
    return manifest


def _manifest(source: Manifest, extractor: Extractor, shards: list[ExtractedShard]) -> Manifest:
    settings = extractor.settings
    return Manifest(
        kind="tokens",
        set=source.set,
        params=source.params,
        shards=tuple(shard.row for shard in shards),
        lost=source.lost,
        extra={
            "tokenizer": extractor.fingerprint,
            "architecture": read_card(extractor.tokenizer).architecture.to_dict(),
            "pairs": source.root,
            "precision": "float32",
            "device": settings.device,
            "batch": settings.batch,
            "threads": settings.threads,
            "samples_in": source.samples,
            "dropped": [
                {"shard": shard.row.name, "key": lost.name, "reason": lost.reason}
                for shard in shards
                for lost in shard.dropped
            ],
            **code_statistics(np.sum([shard.code_counts for shard in shards], axis=0)),
        },
    )


def _check_complete(path: Path, expected: int, shards: Iterable[ExtractedShard]) -> None:
    found = [(shard.row.samples, len(shard.dropped)) for shard in shards]
    out, dropped = sum(row[0] for row in found), sum(row[1] for row in found)
    if out + dropped != expected:
        raise UserError(
            f"{path}: {out} samples extracted and {dropped} dropped, its manifest says {expected}"
        )


def _row_file(rows: Path, row: ShardRow) -> Path:
    return rows / f"{row.name}.json"


def _plan(extractor: Extractor, source: ShardRow) -> str:
    """SHA-256 (hex) over all that decides a token shard's bytes, the code aside."""
    decisive = (SCHEMA, extractor.fingerprint, asdict(source), extractor.settings.model_dump())
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _finished(row: Path, shard: Path, plan: str) -> ExtractedShard | None:
    """What an earlier run left of a shard, if it is whole and of the same plan."""
    try:
        content = json.loads(row.read_bytes())
        if content["plan"] != plan:
            return None
        finished = ExtractedShard(
            ShardRow(**content["row"]),
            tuple(content["code_counts"]),
            tuple(Lost(**lost) for lost in content["dropped"]),
        )
        with shard.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == finished.row.sha256
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return finished if whole else None


def _sweep(folder: Path, kept: Iterable[str]) -> None:
    """Removes the files of dead writers and of other plans; there is only one driver."""
    names = set(kept)
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink(missing_ok=True)
