"""Runs the workers that make the missing shards of a set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, overload

from pipeline.executor.ledger import Ledger, Shard
from pipeline.executor.outcome import Attempt
from pipeline.executor.run import ExecutorKind, run_tasks
from pipeline.executor.run_log import RunLog, run_log
from pipeline.storage.location import Location
from pipeline.storage.lock import Check
from tvqrap.runtime.errors import UserError

Task = TypeVar("Task")


class ShardsFailed(UserError):
    """Some shards of a set could not be made; the message lists them. The others are finished."""


def make_missing(
    ledger: Ledger[Shard],
    worker: Callable[[], Callable[[Task], Shard]],
    tasks: Mapping[str, Task],
    *,
    what: str,
    logs: Location,
    executor: ExecutorKind,
    workers: int,
    check: Check,
    accept: Callable[[Shard], None] = lambda shard: None,
    on_shard: Callable[[str], None],
    cpus: float = 1,
    gpus: float = 0,
) -> None:
    """Makes the shards that a ledger lacks, and records each as it is finished.

    `tasks` has the task of each shard by name. `check` raises where this driver no longer holds
    the set, and `accept` where a shard is not to be recorded. `on_shard` hears the name of each
    finished shard once, those of earlier runs too. `logs` gets a log of each run.
    Raises ShardsFailed, which begins with `what`, where shards fail; UserError where shards that
    were finished are gone at the end.
    """
    heard = set(ledger.done)
    for name in ledger.done:
        on_shard(name)

    def keep(shard: Shard) -> None:
        accept(shard)
        ledger.add(shard)
        if shard.row.name not in heard:
            heard.add(shard.row.name)
            on_shard(shard.row.name)

    # A second time only where the first turned out to run on other machines than an earlier run.
    while names := ledger.missing:
        with run_log(logs) as log:
            failures = run_tasks(
                worker,
                _Chosen(tasks, names),
                executor=executor,
                workers=workers,
                on_result=lambda index, shard: keep(shard),
                on_attempt=partial(_log_attempt, check, log, names),
                cpus=cpus,
                gpus=gpus,
            )
        if failures:
            raise ShardsFailed(f"{what}: {log.failed(failures, names, len(tasks))}")
    # Workers that died in this run leave files too, whose shards another worker has made since.
    ledger.sweep()
    ledger.check_there()


@dataclass(frozen=True)
class _Chosen(Sequence[Task]):
    """Tasks in the order of their names; each is looked up as a worker gets it."""

    tasks: Mapping[str, Task]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | Sequence[Task]:
        if isinstance(index, slice):
            return _Chosen(self.tasks, self.names[index])
        return self.tasks[self.names[index]]


def _log_attempt(check: Check, log: RunLog, names: Sequence[str], attempt: Attempt) -> None:
    """Logs an attempt of a shard, which is recorded after that, or failed."""
    check()
    log.add(names[attempt.index], attempt)
