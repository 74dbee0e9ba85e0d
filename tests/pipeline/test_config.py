"""Settings of the photographs and the pairs refuse what cannot be."""

import json

import pytest

from pipeline.config import DataSettings, PairsSettings
from tests.support.pairs import PAIRS


def test_settings_refuse_what_cannot_be():
    for change, message in [
        ({"splits": {"train": 0.5, "val": 0.2, "test": 0.2}}, "expected a sum of 1"),
        ({"splits": {"train": 0.0, "val": 0.5, "test": 0.5}}, "expected a split that has photo"),
        ({"shard_size": 0}, "greater than 0"),
        ({"seed": "1"}, "valid integer"),
        ({"sets": {}}, "at least 1"),
        ({"sets": {"a/b": PAIRS["sets"]["train"]}}, "match pattern"),
        ({"sets": {"rows": PAIRS["sets"]["train"]}}, "called 'rows', expected another name"),
        ({"sets": {"tokenizer": PAIRS["sets"]["train"]}}, "expected another name"),
        ({"sets": {"a": PAIRS["sets"]["train"] | {"size": 126}}}, "multiple of 4"),
        ({"sets": {"a": PAIRS["sets"]["train"] | {"degradation": "no"}}}, "expected one of train"),
        ({"colour": 1}, "not permitted"),
    ]:
        with pytest.raises(ValueError, match=message):
            PairsSettings.model_validate(PAIRS | change)
    with pytest.raises(ValueError, match="less than or equal to 1"):
        DataSettings(photos="x", licences=None, min_side=1, max_pixels=1, max_skipped_fraction=1.5)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("first", "blur", "sizes"), [7, 20], "odd number"),
        (("first", "blur", "sizes"), [9, 7], "lowest, highest"),
        (("first", "blur", "kinds"), {"iso": 0.5}, "expected a sum of 1"),
        (("first", "blur", "kinds"), {"round": 1.0}, "iso"),
        (("first", "blur", "beta_plateau"), [1.5, 2.0], "range that holds 1"),
        (("first", "blur", "sigma"), [0.0, 2.0], "greater than or equal to 0.0001"),
        (("final", "cutoff"), [1e-5, 0.5], "greater than or equal to 0.0001"),
        (("first", "resize", "scale"), [0.2, 0.8], "range that holds 1"),
        (("first", "resize", "up"), 0.9, "expected a sum of 1"),
        (("first", "resize", "filters"), ["lanczos"], "bilinear"),
        (("first", "jpeg"), [0, 95], "greater than or equal to 1"),
        (("final", "cutoff"), [0.3, 1.2], "less than or equal to 1"),
        (("second", "prob"), float("nan"), "finite"),
    ],
)
def test_degradation_settings_refuse_what_cannot_be(path, value, message):
    content = json.loads(json.dumps(PAIRS))
    place = content["degradations"]["train"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        PairsSettings.model_validate(content)
