"""The real stage 1, interrupted and changed, in a copy of the project: it goes on, or starts over.

It runs in this process where one worker trains, and as a user starts it with another number.
"""

import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.make_pairs import make_pairs
from stages.runner.stage import run_alone
from stages.runner.worker import as_worker
from stages.train_tokenizer import train_tokenizer
from tests.support.checkout import Checkout, make_checkout
from tvqrap.objectives.tokenizer import TokenizerTask
from tvqrap.pretrained.folder import read_config
from tvqrap.runtime.signals import Interrupted

pytestmark = pytest.mark.slow

STEPS, STEPS_DONE = 4, 3


def set_param(key: str, value: Any) -> None:
    """Changes a param, named by its dotted key, in the params of the working directory."""
    yaml = YAML(typ="safe", pure=True)
    path = Path("params.yaml")
    params = yaml.load(path.read_text())
    section = params
    *parents, last = key.split(".")
    for parent in parents:
        section = section[parent]
    assert last in section
    section[last] = value
    with path.open("w") as file:
        yaml.dump(params, file)


def train(stop_after: int | None = None) -> None:
    """Runs the stage in the working directory; SIGTERM stops it after so many steps."""
    update = TokenizerTask.update

    def stopped(task: TokenizerTask, batch: Any, step: int) -> Any:
        if step + 1 == stop_after:
            signal.raise_signal(signal.SIGTERM)
        return update(task, batch, step)

    run = partial(run_alone, "train_tokenizer", partial(as_worker, train_tokenizer))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenizerTask, "update", stopped)
        if stop_after is None:
            run()
        else:
            with pytest.raises(Interrupted):
                run()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with pairs, whose training of the tokenizer was stopped."""
    checkout = make_checkout(tmp_path_factory.mktemp("interrupted"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout.root)
        patch.setenv("TVQRAP_EXECUTOR", "serial")
        set_param("compute.threads", 1)
        set_param("tokenizer.steps", STEPS)
        set_param("tokenizer.codebook_life.vq_warmup_steps", 1)
        run_alone("make_pairs", make_pairs)
        train(stop_after=STEPS_DONE)
    return checkout.root


@pytest.fixture
def checkout(interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A copy of it, which is the working directory."""
    ignored = shutil.ignore_patterns(".git", "docs")
    root = shutil.copytree(interrupted, tmp_path / "checkout", symlinks=True, ignore=ignored)
    monkeypatch.chdir(root)
    monkeypatch.setenv("TVQRAP_EXECUTOR", "serial")
    monkeypatch.delenv("TVQRAP_RESUME", raising=False)
    return Checkout(root)


def unfinished() -> Path:
    (folder,) = Path(".scratch").glob("train_tokenizer-*")
    return folder


def add_comment() -> None:
    with Path("tvqrap/training/loop.py").open("a") as file:
        file.write("\n# A comment.\n")


@pytest.mark.parametrize(
    ("change", "words", "steps"),
    [
        (
            partial(set_param, "tokenizer.optimiser.learning_rate", 0.002),
            "tokenizer.optimiser.learning_rate 0.001, now 0.002",
            STEPS,
        ),
        (partial(set_param, "tokenizer.steps", 2), f"tokenizer.steps {STEPS}, now 2", STEPS_DONE),
        (add_comment, "code of tvqrap/training", STEPS),
    ],
    ids=["learning rate", "fewer steps", "comment"],
)
@pytest.mark.usefixtures("checkout")
def test_it_goes_on_from_its_step_and_says_so(
    change: Callable[[], None], words: str, steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = unfinished()
    change()
    train()
    out = capsys.readouterr().out
    assert f"goes on with {before.name} at step {STEPS_DONE}, changed: {words}. To start" in out
    assert f"resumes after step {STEPS_DONE}" in out
    assert (f"step {STEPS_DONE}: ends here, as 2 steps were asked for" in out) == (steps != STEPS)
    about = read_config(Path("models/tokenizer")).about
    assert about["steps"] == steps and [each["step"] for each in about["changes"]] == [STEPS_DONE]


def test_it_goes_on_with_another_number_of_workers(checkout: Checkout) -> None:
    before = unfinished()
    set_param("compute.workers", 2)
    out = checkout.run(sys.executable, "-m", "stages.train_tokenizer").stdout
    assert f"goes on with {before.name} at step {STEPS_DONE}, changed: workers 1, now 2." in out
    assert f"resumes after step {STEPS_DONE}" in out
    about = read_config(Path("models/tokenizer")).about
    assert (about["steps"], about["workers"]) == (STEPS, 2)


def make_fewer_pairs() -> None:
    set_param("pairs.sets.train.count", 20)
    run_alone("make_pairs", make_pairs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (partial(set_param, "seed", 2), "seed 1, now 2"),
        (partial(set_param, "tokenizer.set", "test"), "tokenizer.set train, now test; content of"),
        (make_fewer_pairs, "content of data/pairs/train;"),
    ],
    ids=["seed", "set", "content of the set"],
)
@pytest.mark.usefixtures("checkout")
def test_it_starts_over_and_says_so(
    change: Callable[[], None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = unfinished()
    change()
    train(stop_after=1)
    out = capsys.readouterr().out
    assert f"starts at step 0 beside {before.name} (step {STEPS_DONE})" in out
    assert f"cannot go on with: {words}" in out and "resumes" not in out
    folders = [path.parent for path in Path(".scratch").glob("train_tokenizer-*/step-*.pt")]
    assert before in folders and len({*folders}) == 2, "both are kept"
