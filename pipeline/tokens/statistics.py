"""Statistics of a token data set: use of the codebook, and drift between shards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.executor.run import ExecutorKind, run_tasks
from pipeline.shards.codec import decode_codes
from pipeline.shards.manifest import Manifest, ShardRow
from pipeline.shards.tar import decoded_member, read_shard
from pipeline.storage.location import Location
from pipeline.tokens.check import code_statistics
from tvqrap.runtime.atomic import write_atomic
from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class ShardDrift:
    """The distance of one shard's code histogram from that of all other shards."""

    shard: str
    samples: int
    divergence: float
    """Jensen-Shannon divergence of the two histograms in bits, 0 (equal) to 1 (nothing shared)."""


@dataclass(frozen=True)
class TokenStatistics:
    """The code histogram of one token set and the drift of its shards."""

    samples: int
    counts: NDArray[np.int64]
    """How often each code occurs, (codebook)."""
    drift: tuple[ShardDrift, ...]
    """In the order of the shards; empty where there is only one."""

    @property
    def dead(self) -> list[int]:
        """Codes that do not occur."""
        return [int(code) for code in np.flatnonzero(self.counts == 0)]

    @property
    def usage(self) -> float:
        """Fraction of the codebook that occurs."""
        return float((self.counts > 0).mean())

    @property
    def perplexity(self) -> float:
        """exp(entropy): the number of equally frequent codes of the same entropy."""
        return float(code_statistics(self.counts)["code_perplexity"])


def token_statistics(
    tokens: Location, *, executor: ExecutorKind = "serial", workers: int = 1
) -> TokenStatistics:
    """Reads all codes of a token set on the executor.

    Raises `UserError` for a set of pairs or a damaged set.
    """
    manifest = Manifest.load(tokens)
    if manifest.kind != "tokens":
        raise UserError(f"{tokens}: holds {manifest.kind}, expected tokens")
    codebook = manifest.codebook
    histograms = np.zeros((len(manifest.shards), codebook), dtype=np.int64)

    def keep(index: int, counts: NDArray[np.int64]) -> None:
        histograms[index] = counts

    home = manifest.home(tokens)
    failures = run_tasks(
        partial(_counter, home, codebook),
        manifest.shards,
        executor=executor,
        workers=workers,
        on_result=keep,
    )
    if failures:
        shard = home / manifest.shards[failures[0].index].name
        other, _, message = failures[0].error.partition("UserError: ")
        raise UserError(f"{shard}: {other}" if other else message)
    return statistics_of(manifest.shards, histograms)


def _counter(home: Location, codebook: int) -> Callable[[ShardRow], NDArray[np.int64]]:
    """The function of a worker: counts the codes of a shard."""
    decode = partial(decode_codes, codebook=codebook)

    def count(row: ShardRow) -> NDArray[np.int64]:
        counts = np.zeros(codebook, dtype=np.int64)
        for sample in read_shard(home / row.name, row.sha256):
            codes = decoded_member(home / row.name, sample, "codes.npy", decode)
            counts += np.bincount(codes.ravel(), minlength=codebook)
        return counts

    return count


def statistics_of(shards: Sequence[ShardRow], histograms: NDArray[np.int64]) -> TokenStatistics:
    """Statistics of shards from their code histograms, (shards, codebook)."""
    total = histograms.sum(0)
    drift: tuple[ShardDrift, ...] = ()
    if len(shards) > 1:
        drift = tuple(
            ShardDrift(row.name, row.samples, jensen_shannon(histogram, total - histogram))
            for row, histogram in zip(shards, histograms, strict=True)
        )
    return TokenStatistics(sum(row.samples for row in shards), total, drift)


def save_tables(found: TokenStatistics, folder: Path, name: str) -> None:
    """Writes tables of a set that `dvc plots show` draws.

    `codes/NAME.tsv` lists the codes from the most to the least frequent, each with its percentage.
    `drift/NAME.tsv`, for several shards, lists the divergence of each.
    """
    total = max(1, int(found.counts.sum()))
    codes = ["rank\tcode\tcount\tpercent"]
    for rank, code in enumerate(np.argsort(-found.counts, kind="stable").tolist()):
        count = int(found.counts[code])
        codes.append(f"{rank}\t{code}\t{count}\t{100 * count / total:.6g}")
    write_atomic(folder / "codes" / f"{name}.tsv", "\n".join(codes) + "\n")
    drift = ["shard\tdivergence"]
    drift += [f"{number}\t{row.divergence:.6f}" for number, row in enumerate(found.drift)]
    if found.drift:
        write_atomic(folder / "drift" / f"{name}.tsv", "\n".join(drift) + "\n")


def jensen_shannon(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Jensen-Shannon divergence of two histograms in bits, 0 to 1."""
    one, other = (counts / max(1, counts.sum()) for counts in (first, second))
    middle = (one + other) / 2

    def relative_entropy(share: NDArray[np.float64]) -> float:
        there = share > 0
        return float((share[there] * np.log2(share[there] / middle[there])).sum())

    return max(0.0, (relative_entropy(one) + relative_entropy(other)) / 2)
