"""One way to run many independent tasks in three places: here, in processes, on a Ray cluster."""

import contextlib
import functools
import hashlib
import importlib
import multiprocessing
import os
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from tvqrap.errors import UserError

Place = Literal["here", "processes", "ray"]
T = TypeVar("T")
R = TypeVar("R")

_ATTEMPTS = 2
_STARTS = 3
CONNECT_SECONDS = 10.0
NO_WORKER_SECONDS = 120.0
"""A run whose last worker is gone waits this long for a cluster to make room again."""
_RELEASE_SECONDS = 5.0
_CHECK_SECONDS = 10.0
_PACKAGES = ("tvqrap", "pipeline")
_ROUNDING = 1e-6
"""Parts of GPUs are floats."""


@dataclass(frozen=True)
class Failure:
    """A task that failed twice."""

    index: int
    """Its place in the tasks."""
    error: str
    """The last error in one line."""
    traceback: str
    """Empty where the worker died without one."""


@dataclass(frozen=True)
class Attempt:
    """One try of a task, as a log tells of it."""

    index: int
    """Its place in the tasks."""
    number: int
    """1 for the first. One that went with its node counts like the one after it."""
    host: str
    """Empty, as `pid` is 0 and `seconds` are, where the worker could not tell any more."""
    pid: int
    seconds: float
    error: str | None = None
    """In one line; none where it succeeded."""
    traceback: str = ""


@dataclass(frozen=True)
class _Outcome(Generic[R]):
    """What one attempt came to: a result, a failure, or a worker that cannot be set up."""

    result: R | None = None
    failure: tuple[str, str] | None = None
    fatal: BaseException | None = None
    host: str = ""
    pid: int = 0
    seconds: float = 0.0


class _Worker(Generic[T, R]):
    """Calls the factory at the first task, and the function it returned for every task.

    Refuses all tasks where it does not run the driver's code. What it runs is settled once, as it
    starts: files that are edited later on change nothing in it.
    """

    def __init__(self, factory: Callable[[], Callable[[T], R]], driver_digest: str) -> None:
        self._factory = factory
        self._function: Callable[[T], R] | None = None
        self._driver_digest = driver_digest
        self._digest = code_digest()

    def ready(self) -> None:
        """Answers once a Ray actor has found its place."""

    def run(self, task: T) -> _Outcome[R]:
        if self._digest != self._driver_digest:
            return _Outcome(
                fatal=UserError(
                    f"a worker on {socket.gethostname()} imports code {self._digest[:12]}, "
                    f"expected the driver's {self._driver_digest[:12]}"
                )
            )
        try:
            if self._function is None:
                self._function = self._factory()
        except Exception as error:
            # A UserError stays one; others need not survive the way to the driver.
            fatal = error if isinstance(error, UserError) else RuntimeError(traceback.format_exc())
            return _Outcome(fatal=fatal)
        begun = time.monotonic()
        try:
            outcome = _Outcome(result=self._function(task))
        except Exception as error:
            outcome = _Outcome(failure=(_one_line(error), traceback.format_exc()))
        seconds = time.monotonic() - begun
        return replace(outcome, host=socket.gethostname(), pid=os.getpid(), seconds=seconds)


class _Queue(Generic[R]):
    """Indices still to run, attempts made and failures so far."""

    def __init__(
        self,
        count: int,
        on_result: Callable[[int, R], None],
        on_attempt: Callable[[Attempt], None],
    ) -> None:
        self.waiting = deque(range(count))
        self.failures: list[Failure] = []
        self._attempts = [0] * count
        self._on_result = on_result
        self._on_attempt = on_attempt

    def settle(self, index: int, outcome: _Outcome[R]) -> None:
        """Hand on a result; put a failed task at the end of the queue once, then record it."""
        if outcome.fatal is not None:
            raise outcome.fatal
        self._tell(index, outcome)
        if outcome.failure is None:
            self._on_result(index, outcome.result)  # type: ignore[arg-type]  # R may be None
            return
        self._attempts[index] += 1
        if self._attempts[index] < _ATTEMPTS:
            self.waiting.append(index)
        else:
            self.failures.append(Failure(index, *outcome.failure))

    def put_back(self, index: int, outcome: _Outcome[R]) -> None:
        """Put a task at the end of the queue that failed by no fault of its own."""
        self._tell(index, outcome)
        self.waiting.append(index)

    def _tell(self, index: int, outcome: _Outcome[R]) -> None:
        who = (outcome.host, outcome.pid, round(outcome.seconds, 3))
        error, trace = outcome.failure or (None, "")
        self._on_attempt(Attempt(index, self._attempts[index] + 1, *who, error, trace))


def run_tasks(
    worker: Callable[[], Callable[[T], R]],
    tasks: Sequence[T],
    *,
    place: Place,
    workers: int,
    on_result: Callable[[int, R], None],
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
    cpus: float = 1,
    gpus: float = 0,
) -> list[Failure]:
    """Run every task; hand each result to `on_result(index, result)` as it arrives, in any order.

    `worker` is a factory called once in each process or actor (there it loads the model); it
    returns the function that is applied to one task after another. Factory, tasks and results must
    be picklable. A task that raises, or whose worker dies, is tried once more; the second time it
    becomes a Failure and the others go on. An error of the factory, or of `on_result`, ends the
    run. Failures come back in the order of the tasks. `on_attempt` hears of every try.

    "processes" starts up to `workers` fresh processes. "ray" starts up to `workers` actors of
    `cpus` and `gpus` each, never more than fit the cluster: the one at RAY_ADDRESS, else a local
    one for this run. Nodes may come and go: a task whose node is gone is run elsewhere, without
    counting as tried. UserError where not even one actor fits, or none for `NO_WORKER_SECONDS`.
    """
    if workers < 1:
        raise ValueError(f"found {workers} workers, expected at least 1")
    queue: _Queue[R] = _Queue(len(tasks), on_result, on_attempt)
    if tasks:
        workers = min(workers, len(tasks))
        if place == "here":
            _run_here(worker, tasks, queue)
        elif place == "processes":
            _run_processes(worker, tasks, queue, workers)
        else:
            _run_ray(worker, tasks, queue, workers, cpus, gpus)
    return sorted(queue.failures, key=lambda failure: failure.index)


def _run_here(worker: Callable[[], Callable[[T], R]], tasks: Sequence[T], queue: _Queue[R]) -> None:
    runner = _Worker(worker, code_digest())
    while queue.waiting:
        index = queue.waiting.popleft()
        queue.settle(index, runner.run(tasks[index]))


def _run_processes(
    worker: Callable[[], Callable[[T], R]], tasks: Sequence[T], queue: _Queue[R], workers: int
) -> None:
    # Spawned, not forked: a fork copies the locks of the threads that torch and OpenCV started.
    context = multiprocessing.get_context("spawn")
    digest = code_digest()
    processes: list[BaseProcess] = []
    busy: dict[Connection, tuple[BaseProcess, int]] = {}

    def start() -> tuple[BaseProcess, Connection]:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(worker, digest, theirs), daemon=True)
        processes.append(process)
        process.start()
        theirs.close()
        return process, ours

    def give(process: BaseProcess, pipe: Connection, index: int) -> None:
        busy[pipe] = (process, index)
        with contextlib.suppress(BrokenPipeError):  # it died: reading from it will tell
            pipe.send(tasks[index])

    try:
        for _ in range(workers):
            give(*start(), queue.waiting.popleft())
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                process, index = busy.pop(pipe)
                died = False
                try:
                    outcome = pipe.recv()
                except (EOFError, ConnectionResetError):
                    died = True
                    process.join()
                    said = f"worker died (exit code {process.exitcode})"
                    outcome = _Outcome(
                        failure=(said, ""), host=socket.gethostname(), pid=process.pid or 0
                    )
                queue.settle(index, outcome)
                if not queue.waiting:
                    pipe.close()
                elif died:
                    give(*start(), queue.waiting.popleft())
                else:
                    give(process, pipe, queue.waiting.popleft())
        for process in processes:
            process.join()
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
                process.join()


def _serve(factory: Callable[[], Callable[[T], R]], digest: str, pipe: Connection) -> None:
    """Body of a worker process: answers tasks until the driver closes the pipe or is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    runner = _Worker(factory, digest)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            pipe.send(runner.run(pipe.recv()))


def _run_ray(
    worker: Callable[[], Callable[[T], R]],
    tasks: Sequence[T],
    queue: _Queue[R],
    workers: int,
    cpus: float,
    gpus: float,
) -> None:
    with ray_cluster() as ray:
        fitting = _actors_that_fit(ray, workers, 0, cpus, gpus, _RELEASE_SECONDS)
        if fitting == 0:
            raise UserError(
                f"Ray: no node has {cpus:g} cpus and {gpus:g} gpus free, expected at least one; "
                f"found {ray.available_resources()}"
            )
        # Ray restarts nothing: an actor that waits for room again would keep its task with it.
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_RayWorker)
        digest = code_digest()
        # Actors that are not up yet hold no task: what never finds room delays nothing.
        starting: dict[Any, Any] = {}
        busy: dict[Any, tuple[Any, int, frozenset[str]]] = {}
        idle: list[Any] = []
        lost_at_start = 0
        last_working = time.monotonic()

        def start(count: int) -> None:
            for _ in range(count):
                actor = remote.remote(worker, digest)
                starting[actor.ready.remote()] = actor

        try:
            start(fitting)
            while busy or queue.waiting:
                while idle and queue.waiting:
                    actor, index = idle.pop(), queue.waiting.popleft()
                    busy[actor.run.remote(tasks[index])] = (actor, index, _alive_nodes(ray))
                died = False
                pending = [*busy, *starting]
                if not pending:
                    time.sleep(1)  # every node is gone: another may come
                for reference in ray.wait(pending, timeout=_CHECK_SECONDS)[0] if pending else []:
                    try:
                        outcome = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        actor_lost = isinstance(error, ray.exceptions.RayActorError)
                        outcome = _Outcome(failure=(_one_line(error), ""))
                        died = died or actor_lost
                    else:
                        actor_lost = False
                    if reference in starting:
                        actor = starting.pop(reference)
                        lost_at_start += actor_lost
                        if lost_at_start > _ATTEMPTS * workers:
                            raise UserError(f"Ray: workers die as they start: {outcome.failure}")
                    else:
                        actor, index, nodes = busy.pop(reference)
                        if actor_lost and nodes - _alive_nodes(ray):
                            queue.put_back(index, outcome)  # its end says nothing of the task
                        else:
                            queue.settle(index, outcome)
                    if not actor_lost:
                        idle.append(actor)
                if busy or idle:
                    last_working = time.monotonic()
                elif time.monotonic() - last_working > NO_WORKER_SECONDS:
                    raise UserError(
                        f"Ray: no worker for {NO_WORKER_SECONDS:.0f} s with {len(queue.waiting)} "
                        f"tasks left, expected a node with {cpus:g} cpus and {gpus:g} gpus"
                    )
                held = len(busy) + len(starting) + len(idle)
                wanted = min(workers, len(busy) + len(queue.waiting)) - held
                if wanted > 0:
                    patience = _RELEASE_SECONDS if died else 0
                    start(_actors_that_fit(ray, wanted, held, cpus, gpus, patience))
        finally:
            for actor in [*starting.values(), *idle, *(entry[0] for entry in busy.values())]:
                ray.kill(actor)


class _RayWorker(_Worker[T, R]):
    """The actor, under a name of its own in Ray's lists."""


def connected(place: Place) -> contextlib.AbstractContextManager[Any]:
    """What several runs at a place share while the block runs: on Ray, one cluster."""
    return ray_cluster() if place == "ray" else contextlib.nullcontext()


@contextlib.contextmanager
def ray_cluster() -> Iterator[Any]:
    """The ray module with a connection: the one that is open, RAY_ADDRESS's, or a local cluster.

    Around several runs it saves starting a cluster for each, which takes longer than small sets.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS")
    # Workers of a cluster that already runs may hold another copy of the code; those of a local one
    # would import what has been edited since. All get a copy of what the driver has now.
    code_digest()
    shipped = {"py_modules": [str(path) for path in _package_folders()]}
    if address:
        _check_reachable(address)
        try:
            ray.init(address, runtime_env=shipped)
        except ConnectionError as error:
            raise UserError(f"RAY_ADDRESS is {address!r}: {_one_line(error)}") from None
    else:
        _start_local(ray, shipped)
    try:
        yield ray
    finally:
        ray.shutdown()


def _start_local(ray: Any, shipped: dict[str, Any]) -> None:
    """Starts a local cluster. Ray gives it 30 seconds, which a busy machine may exceed."""
    for _ in range(_STARTS):
        try:
            # Without an address ray.init would attach to any cluster that it finds.
            ray.init("local", include_dashboard=False, runtime_env=shipped)
            return
        except Exception as error:  # Ray raises no kind of its own
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
    raise UserError(f"Ray: no local cluster in {_STARTS} tries of 30 s: is this machine too busy?")


def _check_reachable(address: str) -> None:
    """UserError where nothing listens at a cluster's address: ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return  # "auto", which ray resolves
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise UserError(
            f"RAY_ADDRESS is {address!r}: no connection ({error}), expected the address of a "
            "running cluster"
        ) from None


def _alive_nodes(ray: Any) -> frozenset[str]:
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


def _actors_that_fit(
    ray: Any, wanted: int, held: int, cpus: float, gpus: float, patience: float
) -> int:
    """How many actors, up to `wanted`, fit what is free; each has to fit one node.

    `held` actors of this run are there already. Waits up to `patience` seconds where there is room
    by the nodes' sizes: actors that ended give back what they held a moment later.
    """

    def fit(nodes: Iterable[Mapping[str, float]]) -> int:
        return sum(actors_on_node(resources, cpus, gpus) for resources in nodes)

    room = fit(node["Resources"] for node in ray.nodes() if node["Alive"]) - held
    wanted = max(0, min(wanted, room))
    deadline = time.monotonic() + patience
    while (free := fit(_free_by_node())) < wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return min(wanted, free)


def actors_on_node(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many actors of `cpus` and `gpus` fit what a node has, CPU and GPU, or has free.

    An actor that takes a part of a GPU takes it of one: two of 0.4 fit a GPU, and the rests of two
    GPUs are no third. What is free of a node comes as a sum; its fraction counts as one rest.
    """
    limits = []
    if cpus > 0:
        limits.append(int(resources.get("CPU", 0) / cpus + _ROUNDING))
    if gpus > 0:
        present = resources.get("GPU", 0)
        whole = int(present + _ROUNDING)
        if gpus < 1:
            rest = max(0.0, present - whole)
            limits.append(whole * int(1 / gpus + _ROUNDING) + int(rest / gpus + _ROUNDING))
        else:
            limits.append(int(whole / gpus + _ROUNDING))
    return min(limits, default=0)


def _free_by_node() -> list[dict[str, float]]:
    """What each node of the cluster has free: `ray.available_resources` is the sum over nodes."""
    state = importlib.import_module("ray._private.state")
    found: dict[str, dict[str, float]] = state.available_resources_per_node()
    return list(found.values())


@functools.cache
def code_digest() -> str:
    """SHA-256 over the Python files of the packages that workers run, as this process met them.

    Read once: a run goes on with the code that it began with, whatever is edited meanwhile.
    """
    digest = hashlib.sha256()
    for folder in _package_folders():
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{folder.name}/{path.relative_to(folder)}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _package_folders() -> list[Path]:
    # By import: on a cluster, each package that was shipped lies in a folder of its own.
    files = (importlib.import_module(name).__file__ for name in _PACKAGES)
    return [Path(file).parent for file in files if file is not None]


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
