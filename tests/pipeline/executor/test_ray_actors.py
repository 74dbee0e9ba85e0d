"""Which actor gets which task, and what becomes of it, on a cluster that exists in memory alone.

`tests/pipeline/tokens/test_cluster.py` has the same on real nodes, which take minutes to start.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.executor import queue, ray_actors
from pipeline.executor.outcome import Attempt, OtherMachineError, Outcome, UnfitWorkerError
from pipeline.executor.queue import Place
from pipeline.executor.run import run_tasks
from tvqrap.runtime.errors import UserError


class RayError(Exception):
    """As Ray's."""


class RayActorError(RayError):
    """As Ray's."""


@dataclass(eq=False)
class FakeActor:
    """An actor on a node; none while it waits for room."""

    number: int
    node: str | None
    alive: bool = True
    answers: int = 0


@dataclass(eq=False)
class Reference:
    """What an actor was asked: a task, or whether it is ready."""

    actor: FakeActor
    task: Any = None


@dataclass
class FakeRay:
    """Nodes with one CPU each. Tasks are run by `behave(node, task)` as they are waited for."""

    alive: list[str]
    behave: Callable[[str, int], Any]
    actors: list[FakeActor] = field(default_factory=list)
    dying: tuple[str, ...] = ()
    """Nodes whose actors die as they start."""
    most: int = 0
    """Most tasks that one actor had at once."""

    @property
    def exceptions(self) -> Any:
        return SimpleNamespace(RayError=RayError, RayActorError=RayActorError)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 1.0}} for name in self.alive]

    def remote(self, **options: Any) -> Any:
        def make(*given: Any) -> Any:
            used = {actor.node for actor in self.actors if actor.alive}
            node = next((name for name in self.alive if name not in used), None)
            actor = FakeActor(len(self.actors), node)
            if node in self.dying:  # a start takes longer than a task
                actor.answers = 2 * len(self.actors)
            self.actors.append(actor)
            return SimpleNamespace(
                fake=actor,
                ready=SimpleNamespace(remote=lambda: Reference(actor)),
                run=SimpleNamespace(remote=lambda task: Reference(actor, task)),
            )

        return lambda actor_class: SimpleNamespace(remote=make)

    def wait(self, pending: list[Reference], timeout: float) -> tuple[list[Reference], Any]:
        for actor in self.actors:
            mine = sum(each.actor is actor and each.task is not None for each in pending)
            self.most = max(self.most, mine)
        for reference in sorted(pending, key=lambda each: each.actor.answers):
            if not reference.actor.alive or self._ready(reference):
                reference.actor.answers += 1
                return [reference], []
        time.sleep(0.01)
        return [], pending

    def _ready(self, reference: Reference) -> bool:
        node = reference.actor.node
        return node is not None and (reference.task is None or self._behaved(reference) != "hang")

    def _behaved(self, reference: Reference) -> Any:
        assert reference.actor.node is not None
        return self.behave(reference.actor.node, reference.task)

    def get(self, reference: Reference) -> Any:
        actor = reference.actor
        assert actor.node is not None
        if reference.task is None and actor.node in self.dying:
            actor.alive = False
            raise RayActorError("the actor died")
        if actor.alive and reference.task is None:
            return Place("host-" + actor.node, actor.number), actor.node
        found = self._behaved(reference) if actor.alive else "die"
        if found in ("die", "take the node down"):
            actor.alive = False
            if found == "take the node down":
                self.alive.remove(actor.node)
            raise RayActorError("the actor died")
        outcome = found if isinstance(found, Outcome) else Outcome(result=found)
        return replace(outcome, host="host-" + actor.node, pid=actor.number)

    def kill(self, handle: Any) -> None:
        handle.fake.alive = False


@dataclass
class Ran:
    """The outcome of a run."""

    results: dict[int, int]
    failures: list[int]
    attempts: list[Attempt]
    ray: FakeRay


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Squares the tasks 0, 1, 2 ... on nodes that behave oddly where `behave` says so."""

    def ran(
        nodes: list[str],
        tasks: int,
        behave: Callable[[str, int], Any],
        on_result: Callable[[int, int], None] = lambda index, result: None,
        dying: tuple[str, ...] = (),
        started: list[FakeActor] | None = None,
        **options: Any,
    ) -> Ran:
        def square(node: str, task: int) -> Any:
            found = behave(node, task)
            return task * task if found is None else found

        fake = FakeRay(list(nodes), square, dying=dying)
        fake.actors = started if started is not None else []
        monkeypatch.setattr(ray_actors, "ray_cluster", lambda: contextlib.nullcontext(fake))
        results: dict[int, int] = {}
        attempts: list[Attempt] = []

        def keep(index: int, result: int) -> None:
            on_result(index, result)
            results[index] = result

        failures = run_tasks(
            lambda: lambda task: task,
            list(range(tasks)),
            executor="ray",
            on_result=keep,
            on_attempt=attempts.append,
            **{"workers": 3, "in_flight": 3, **options},
        )
        return Ran(results, [each.index for each in failures], attempts, fake)

    return ran


def squares(count: int, *without: int) -> dict[int, int]:
    return {number: number * number for number in range(count) if number not in without}


Run = Callable[..., Ran]


def test_actors_have_several_tasks_each_and_share_the_last_ones(run: Run) -> None:
    found = run(["a", "b"], 20, lambda node, task: None, workers=2)
    assert found.results == squares(20) and found.ray.most == 3
    assert run(["a", "b"], 2, lambda node, task: None, workers=2).ray.most == 1


def test_a_node_that_fails_the_checks_is_named_once_and_gets_no_more(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def behave(node: str, task: int) -> Any:
        return Outcome(fatal=UserError("b sees other storage")) if node == "b" else None

    found = run(["a", "b"], 12, behave)
    assert found.results == squares(12) and not found.failures
    assert [record.getMessage() for record in caplog.records] == [
        "the run goes on without the worker 1 on host-b: b sees other storage"
    ]
    assert len(found.ray.actors) == 2, "no other actor takes its place on the node"
    assert {each.number for each in found.attempts} == {1}


def test_an_odd_node_that_is_asked_first_leaves_the_run_to_the_other(run: Run) -> None:
    def behave(node: str, task: int) -> Any:
        return Outcome(fatal=UserError("odd")) if node == "a" else None

    assert run(["a", "b"], 5, behave, workers=1).results == squares(5)


def test_a_run_without_a_fit_node_ends_with_the_first_reason(run: Run) -> None:
    def behave(node: str, task: int) -> Any:
        return Outcome(fatal=UserError(f"{node} sees other storage"))

    with pytest.raises(UserError, match=r"^a sees other storage$"):
        run(["a", "b"], 5, behave)


def test_every_node_is_asked_for_the_machine_that_is_wanted(run: Run) -> None:
    def behave(node: str, task: int) -> Any:
        return None if node == "e" else Outcome(fatal=OtherMachineError("another machine"))

    assert run(["a", "b", "c", "d", "e"], 1, behave).results == squares(1)


def test_results_of_another_machine_are_made_again(run: Run) -> None:
    """The driver refuses those of the node b, whose worker did not know that it is odd."""
    by_node: dict[int, str] = {}

    def behave(node: str, task: int) -> Any:
        by_node[task] = node
        return None

    def refuse(index: int, result: int) -> None:
        if by_node[index] == "b":
            raise UnfitWorkerError("made on another machine")

    found = run(["a", "b"], 12, behave, refuse)
    assert found.results == squares(12)
    assert set(by_node.values()) == {"a"}, "each task was made by the other node in the end"


def test_a_node_whose_workers_die_as_they_start_ends_no_run(run: Run) -> None:
    found = run(["a", "b"], 40, lambda node, task: None, workers=2, dying=("b",))
    assert found.results == squares(40) and not found.failures


def test_where_all_workers_die_as_they_start_few_are_tried(run: Run) -> None:
    """By default a run may have as many workers as there are tasks."""
    started: list[FakeActor] = []
    with pytest.raises(UserError, match="workers die as they start: RayActorError: the actor died"):
        run(["a", "b"], 1000, lambda n, t: None, workers=10**6, dying=("a", "b"), started=started)
    assert len(started) < 10


def test_tasks_of_a_node_that_goes_are_made_by_others_without_counting(run: Run) -> None:
    def behave(node: str, task: int) -> Any:
        return "take the node down" if node == "b" else None

    found = run(["a", "b"], 12, behave)
    assert found.results == squares(12) and not found.failures
    assert {each.number for each in found.attempts} == {1}
    assert any(each.error for each in found.attempts)


def test_a_node_that_fails_every_task_leaves_them_to_the_others(run: Run) -> None:
    """A stale disk or a failing GPU: its workers are the first to ask for more."""

    def behave(node: str, task: int) -> Any:
        return Outcome(failure=("OSError: stale", "")) if node == "b" else None

    found = run(["a", "b"], 40, behave)
    assert found.results == squares(40) and not found.failures
    failed = {each.index for each in found.attempts if each.error}
    assert failed and {each.host for each in found.attempts if each.error} == {"host-b"}


def test_a_lone_node_tries_a_task_again_itself(run: Run) -> None:
    def behave(node: str, task: int) -> Any:
        return Outcome(failure=("ValueError: odd", "")) if task == 7 else None

    found = run(["a"], 9, behave)
    assert found.results == squares(9, 7) and found.failures == [7]
    assert [each.number for each in found.attempts if each.index == 7] == [1, 2]


def test_the_log_names_the_node_of_an_actor_that_died(run: Run) -> None:
    found = run(["a"], 1, lambda node, task: "die")
    assert [(each.host, each.error is None) for each in found.attempts] == [("host-a", False)] * 2


def test_a_task_that_kills_its_actor_takes_no_other_with_it(run: Run) -> None:
    found = run(["a"], 9, lambda node, task: "die" if task == 4 else None)
    assert found.results == squares(9, 4) and found.failures == [4]
    counted = [each.number for each in found.attempts if each.index == 4]
    assert max(counted) == 2


def test_a_task_that_hangs_is_stopped_named_and_tried_by_another(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("HUNG_SECONDS", "FIRST_HUNG_SECONDS"):
        monkeypatch.setattr(queue, name, 0.1)

    def behave(node: str, task: int) -> Any:
        return "hang" if task == 3 else None

    found = run(["a", "b"], 9, behave)
    assert found.results == squares(9, 3) and found.failures == [3]
    assert "no result from the worker" in caplog.text and "on host-" in caplog.text
