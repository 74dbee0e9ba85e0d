"""A store that vanishes: one line that names it, nothing lost, and the rerun goes on."""

import contextlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from pipeline.config import PairsSettings
from pipeline.inspection.verify import verify_shards
from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.shards.manifest import Manifest, sets_in, trust_storage
from pipeline.storage import lease
from pipeline.storage.location import Location, Url, file_sizes, location
from pipeline.tokens.extract import extract_set
from stages.extract_tokens import extract_tokens
from stages.make_pairs import make_pairs
from stages.params import Params
from stages.runner.stage import Stage, run_stage
from tests.support import object_store
from tests.support.disasters import apart, gone, tree, vanish
from tests.support.fuzzing import FACTOR, SEED
from tests.support.pairs import PAIRS, data_settings
from tests.support.states import flattened
from tests.support.tokens import SETTINGS, make_material
from tests.support.training import predictor_task
from tests.support.training import run as train
from tvqrap.runtime.atomic import is_temporary
from tvqrap.runtime.errors import UserError
from tvqrap.training.batch import Batch

pytestmark = pytest.mark.slow

MOMENTS = max(1, round(5 * FACTOR))
BODIES: dict[str, tuple[Callable[[Stage], None], str]] = {
    "make_pairs": (make_pairs, "data/pairs"),
    "extract_tokens": (extract_tokens, "data/tokens"),
}
"""By stage: its body, and the folder of its sets."""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photographs, pairs and a tokenizer, which stages use in this process."""
    torch.set_num_threads(1)
    pairs, tokenizer = make_material(tmp_path, count=6, shard_size=2)
    shutil.copytree(pairs, tmp_path / "data/pairs/train")
    shutil.copytree(tokenizer, tmp_path / "models/tokenizer")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TVQRAP_EXECUTOR", "serial")
    monkeypatch.setattr(lease, "SECONDS", 2.0)
    return tmp_path


def stage_of(name: str, storage: str) -> Stage:
    """A stage that puts its sets into a storage."""
    Path(".scratch/work").mkdir(parents=True, exist_ok=True)
    data = data_settings("photos")
    params = SimpleNamespace(
        data=data,
        pairs=PairsSettings.model_validate({**PAIRS, "storage": storage}),
        tokens=SETTINGS.model_copy(update={"storage": storage}),
    )
    return Stage(name, cast(Params, params), "0" * 64, Path(".scratch/work"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], int]:
    """Runs a stage with a storage in this process, and returns its exit code."""

    def run(name: str, storage: str) -> int:
        body = BODIES[name][0]
        monkeypatch.setattr(
            "stages.runner.stage.run_alone", lambda name, body: body(stage_of(name, storage))
        )
        with pytest.raises(SystemExit) as ended:
            run_stage(name, body)
        return cast(int, ended.value.code)

    return run


def assert_published(name: str, storage: str) -> dict[str, str]:
    """Asserts that the sets of a stage are sound; their roots by name."""
    trust_storage(storage)
    sets = sets_in(Path(BODIES[name][1]))
    assert sets
    for folder in sets:
        assert verify_shards(folder, hashes=True) == []
    return {folder.name: Manifest.load(folder).root for folder in sets}


def assert_one_line(name: str, storage: str, code: int | None, said: str) -> None:
    """Asserts that a run ended with an error of one line that names the storage."""
    lines = [line for line in said.splitlines() if not line.endswith(" left")]  # progress
    lines = [line for line in lines if not line.startswith("WARNING")]
    assert code == 1 and len(lines) == 1, said
    assert lines[0].startswith(f"{name}: ") and storage in lines[0], said


def moments(name: str, among: int) -> list[int]:
    """Some of the changes that a run makes, its last ones too."""
    chosen = Random(f"{SEED} {name}").sample(range(among), min(MOMENTS, among))
    return sorted({*chosen, *range(among - 2, among)})


@pytest.mark.parametrize("name", BODIES)
def test_a_shared_folder(
    name: str, checkout: Path, run: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is no longer mounted: its path leads nowhere, or to what is made there anew."""
    store = checkout / "share"

    def count() -> None:
        changes = vanish(store, -1)
        assert run(name, str(store)) == 0
        (checkout / "changes").write_text(str(changes()))

    assert apart(count) == 0, capfd.readouterr()
    expected = assert_published(name, str(store))
    for moment in moments(name, int((checkout / "changes").read_text())):
        for folder in (store, Path(BODIES[name][1]), Path(".scratch")):
            shutil.rmtree(folder, ignore_errors=True)
        capfd.readouterr()

        def work(moment: int = moment) -> None:
            vanish(store, moment)
            os._exit(run(name, str(store)))

        code = apart(work)
        said = capfd.readouterr().err
        if code == 0:  # all of its sets were made at the new place
            assert assert_published(name, str(store)) == expected
            continue
        assert_one_line(name, str(store), code, said)
        anew = tree(store) if store.exists() else {}
        assert not [path for path in anew if is_temporary(Path(path).name)]
        shutil.rmtree(store, ignore_errors=True)
        gone(store).rename(store)
        assert apart(lambda: os._exit(run(name, str(store)))) == 0, capfd.readouterr()
        assert assert_published(name, str(store)) == expected, moment


class Switch:
    """Lets object stores answer no more after some requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests = 0
        self.last: int | None = None
        reached = Url._store

        @contextlib.contextmanager
        def checked(url: Url) -> Iterator[tuple[Any, str]]:
            with reached(url) as found:
                self.requests += 1
                if self.last is not None and self.requests > self.last:
                    raise ConnectionRefusedError("connection refused")
                yield found

        monkeypatch.setattr(Url, "_store", checked)


@pytest.mark.parametrize("name", BODIES)
def test_an_object_store(
    name: str,
    checkout: Path,
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    switch = Switch(monkeypatch)
    assert run(name, "memory://whole") == 0, capsys.readouterr()
    expected = assert_published(name, "memory://whole")
    for moment in moments(f"{name} object", switch.requests):
        store = f"memory://{moment}"
        shutil.rmtree(BODIES[name][1])
        shutil.rmtree(".scratch")
        capsys.readouterr()
        switch.requests, switch.last = 0, moment
        code = run(name, store)
        said = capsys.readouterr().err
        switch.last = None
        if code != 0:
            assert_one_line(name, store, code, said)
            assert not Path(BODIES[name][1]).exists()
            assert run(name, store) == 0, capsys.readouterr()
        assert assert_published(name, store) == expected, moment


def test_a_server_that_ends(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3: what was stored before is there when the server is back."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("pipeline.tokens.extract.IN_FLIGHT", 1)  # one shard is made before it ends
    work = Url("s3://vanishing/tokens")
    extract = partial(
        extract_set,
        Path("data/pairs/train"),
        Path("models/tokenizer"),
        work,
        SETTINGS,
        executor="serial",
        workers=1,
    )
    with object_store.s3_server("vanishing") as server:
        _, port = server.get_host_and_port()
        with pytest.raises(UserError, match=r"^s3://vanishing/tokens/[^\n]*$"):
            extract(on_shard=lambda samples: server.stop())
    with object_store.s3_server("vanishing", port):
        made = file_sizes(work / "train")
        assert list(made) == ["000000.tar"]
        extract()
        assert verify_shards(work / "train", hashes=True) == []


@pytest.fixture(params=["folder", "object store"])
def tokens(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Tokens in twenty shards of one sample."""
    torch.set_num_threads(1)
    pairs, tokenizer = make_material(tmp_path, count=20, shard_size=1)
    made = tmp_path / "made"
    extract_set(pairs, tokenizer, made, SETTINGS, executor="serial", workers=1)
    if request.param == "folder":
        return made / "train"
    store = location("memory://tokens/train")
    for name in file_sizes(made / "train"):
        (store / name).write_bytes((made / "train" / name).read_bytes())
    return store


def test_a_training(tokens: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its last checkpoint, and goes on to the state of one that nothing disturbed."""
    switch = Switch(monkeypatch)

    def trained(folder: str, after: Callable[[int], None] = lambda step: None) -> dict[str, Any]:
        members = MemberSelection(lr=True, tokens=True)
        loader = Loader(ShardedDataset.open(tokens), members, seed=0, batch_size=2)

        def batches(step: int) -> Generator[Batch, None, None]:
            with contextlib.closing(loader.batches(step)) as stream:
                for number, batch in enumerate(stream, step + 1):
                    after(number)
                    yield batch

        task = predictor_task()
        train(task, tmp_path / folder, source=batches)
        return flattened(task.state())

    def lose(step: int) -> None:
        switch.last = 0
        if isinstance(tokens, Path) and tokens.exists():
            tokens.rename(gone(tokens))

    whole = trained("whole")
    with pytest.raises(UserError, match=r"[^\n]*000\d\d\d.tar: [^\n]*$") as ended:
        trained("disturbed", lose)
    assert str(tokens) in str(ended.value)
    assert list((tmp_path / "disturbed").glob("step-*.pt"))
    with pytest.raises(UserError, match=r"manifest\.json"):
        trained("disturbed")
    switch.last = None
    if isinstance(tokens, Path):
        gone(tokens).rename(tokens)
    begun: list[int] = []
    ended_state = trained("disturbed", begun.append)
    assert begun[0] > 1, "it began again"
    assert whole.keys() == ended_state.keys()
    for key, value in whole.items():
        same = torch.equal(value, ended_state[key]) if torch.is_tensor(value) else True
        assert same, key
