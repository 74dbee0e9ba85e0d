"""Changes of sets and photographs: shards that nothing decides anew are taken over, not made.

Of a set that is taken over, all files are compared with those of a fresh one, the index too.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.config import DataSettings, PairsSettings
from pipeline.executor.ledger import EarlierRuns
from pipeline.pairs.make import make_set
from pipeline.sources.scan import scan_photos
from tests.support.pairs import PAIRS, data_settings, texture

PHOTOS = 130


def with_sets(**sets: dict[str, Any]) -> PairsSettings:
    """Settings whose sets have changed keys; a name that is new starts from the set `train`."""
    known = PAIRS["sets"]
    settings = {
        name: {**known.get(name, known["train"]), **sets.get(name, {})}
        for name in dict.fromkeys((*known, *sets))
    }
    return PairsSettings.model_validate({**PAIRS, "sets": settings})


def make(pairs: PairsSettings, data: DataSettings, root: Path, *before: str) -> dict[str, int]:
    """Makes all sets in a folder of `root`; the number of shards that each takes from `before`."""
    earlier = EarlierRuns(folders=tuple(root / name for name in before))
    scan = scan_photos(data, executor="serial", workers=1)
    work = root / f"run{len(before)}"
    taken: dict[str, int] = {}
    for name in pairs.sets:
        make_set(
            name,
            pairs,
            data,
            scan,
            work,
            executor="serial",
            workers=1,
            earlier=earlier,
            on_taken_over=lambda count, name=name: taken.setdefault(name, count),
        )
        if taken[name]:
            fresh = root / f"fresh{len(before)}"
            make_set(name, pairs, data, scan, fresh, executor="serial", workers=1)
            assert contents(work / name) == contents(fresh / name)
    return taken


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shards(folder: Path) -> int:
    return len(list(folder.glob("*.tar")))


def attempts(folder: Path) -> list[str]:
    """The shards that workers made, from the logs."""
    lines = [line for log in folder.glob("*.jsonl") for line in log.read_text().splitlines()]
    return [json.loads(line)["shard"] for line in lines]


def test_a_changed_set_alone_is_made_again(
    pairs: PairsSettings, data: DataSettings, tmp_path: Path
) -> None:
    assert make(pairs, data, tmp_path) == {"train": 0, "test": 0}
    changed = with_sets(test={"size": 32})
    assert make(changed, data, tmp_path, "run0") == {"train": 4, "test": 0}
    assert attempts(tmp_path / "run1/logs/train") == []
    assert attempts(tmp_path / "run1/logs/test") == ["000000.tar"]


def test_a_new_set_leaves_the_others(
    pairs: PairsSettings, data: DataSettings, tmp_path: Path
) -> None:
    make(pairs, data, tmp_path)
    assert make(with_sets(more={"count": 7}), data, tmp_path, "run0") == {
        "train": 4,
        "test": 1,
        "more": 0,
    }


@pytest.fixture
def many(tmp_path: Path) -> DataSettings:
    """Photographs for several groups; the last one is to be added later."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(PHOTOS):
        Image.fromarray(texture(number, 34, 40)).save(folder / f"p{number}.png")
    return data_settings(folder, min_side=32, max_pixels=10_000, max_skipped_fraction=0.0)


@pytest.mark.parametrize("count", [PHOTOS, 2 * PHOTOS])
def test_a_new_photograph_changes_the_shards_of_its_group(
    count: int, many: DataSettings, tmp_path: Path
) -> None:
    """One crop of each photograph or two, in two groups."""
    photos = Path(many.photos)
    train = with_sets(train={"count": count, "size": 32, "variants": 1}).sets["train"]

    def settings(count: int) -> PairsSettings:
        only = train.model_copy(update={"count": count})
        splits = with_sets().splits.model_copy(update={"train": 1.0, "val": 0.0, "test": 0.0})
        return with_sets().model_copy(update={"splits": splits, "sets": {"train": only}})

    make(settings(count), many, tmp_path)
    Image.fromarray(texture(PHOTOS, 34, 40)).save(photos / "new.png")
    taken = make(settings(count + count // PHOTOS), many, tmp_path, "run0")["train"]
    made = len(attempts(tmp_path / "run1/logs/train"))
    assert made + taken == shards(tmp_path / "run1/train")
    assert made <= shards(tmp_path / "run0/train") * 0.6, "the other group is made again"
    # With the count as it was, the new photograph takes crops from others, which are neighbours.
    taken = make(settings(count), many, tmp_path, "run0", "run1")["train"]
    assert taken > 0
