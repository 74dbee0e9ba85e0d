"""Runs the workers that make the missing shards of a set."""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar, overload

from pipeline.executor.ledger import Ledger, Recorder, Shard, check_machine
from pipeline.executor.outcome import Attempt, OtherMachineError
from pipeline.executor.run import ExecutorKind, run_tasks
from pipeline.executor.run_log import RunLog, run_log
from pipeline.storage.location import Location
from pipeline.storage.lock import Check
from tvqrap.runtime.errors import UserError

Task = TypeVar("Task")

Maker = tuple[object, Callable[[Task], Shard]]
"""The kind of machine of a worker, and its function that makes a shard."""


class ShardsFailed(UserError):
    """Some shards of a set could not be made; the message lists them. The others are finished."""


def make_missing(
    ledger: Ledger[Shard],
    worker: Callable[[], Maker[Task, Shard]],
    tasks: Mapping[str, Task],
    *,
    what: str,
    logs: Location,
    executor: ExecutorKind,
    workers: int,
    check: Check,
    on_shard: Callable[[str], None],
    cpus: float = 1,
    gpus: float = 0,
    in_flight: int = 1,
) -> None:
    """Makes the shards that a ledger lacks; workers record each as it is finished.

    Workers on another kind of machine than that of the finished shards make none. Where all workers
    are, the shards of earlier runs are made again. `tasks` has the task of each shard by name.
    `check` raises where this driver no longer holds the set. `on_shard` gets the name of each
    finished shard once, those of earlier runs too. `logs` gets a log of each run. Each worker makes
    up to `in_flight` shards at once. Raises ShardsFailed, which begins with `what`, where shards
    fail; UserError where shards that were finished are gone at the end.
    """
    reported = set(ledger.done)
    for name in ledger.done:
        on_shard(name)

    def keep(shard: Shard) -> None:
        ledger.add(shard)
        if shard.row.name not in reported:
            reported.add(shard.row.name)
            on_shard(shard.row.name)

    while names := ledger.missing:
        with run_log(logs) as log:
            try:
                failures = run_tasks(
                    _Recording(worker, ledger.record, ledger.machine),
                    _Chosen(tasks, names),
                    executor=executor,
                    workers=workers,
                    on_result=lambda index, shard: keep(shard),
                    on_attempt=partial(_log_attempt, check, log, names),
                    cpus=cpus,
                    gpus=gpus,
                    in_flight=in_flight,
                )
            except OtherMachineError:
                # Waiting for machines of the kind of an earlier run could last for ever.
                if not ledger.drop_earlier():
                    raise
                continue
        if failures:
            raise ShardsFailed(f"{what}: {log.failed(failures, names, len(tasks))}")
    # Workers that died in this run leave files too, whose shards another worker has made since.
    ledger.sweep()
    ledger.check_there()


@dataclass(frozen=True)
class _Recording(Generic[Task, Shard]):
    """A worker's factory: the function that it returns also records each shard.

    So a shard that was made counts, even if the driver dies before it gets the result.
    """

    worker: Callable[[], Maker[Task, Shard]]
    record: Recorder[Shard]
    machine: object | None
    """The kind of machine of the finished shards: a worker of another kind begins none."""

    def __call__(self) -> Callable[[Task], Shard]:
        machine, make = self.worker()
        check_machine(f"{socket.gethostname()} makes shards", machine, self.machine)
        return partial(self._made, make)

    def _made(self, make: Callable[[Task], Shard], task: Task) -> Shard:
        shard = make(task)
        self.record(shard)
        return shard


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
