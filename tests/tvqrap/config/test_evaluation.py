"""The `evaluation:` section."""

from typing import Any

import pytest
from pydantic import ValidationError

from tvqrap.config.evaluation import EvaluationSettings

GOOD: dict[str, Any] = {
    "metrics": ["psnr_y", "fsim"],
    "confidence": 0.95,
    "pictures": 2,
    "pad_multiple": 64,
}


def test_a_complete_section_is_taken() -> None:
    assert EvaluationSettings(**GOOD).metrics == ("psnr_y", "fsim")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics", []),
        ("metrics", ["psnr_y", "psnr_y"]),
        ("metrics", ["nothing"]),
        ("confidence", 1.0),
        ("confidence", 0.0),
        ("pad_multiple", "64"),
        ("pictures", -1),
        ("other", 1),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ValidationError) as error:
        EvaluationSettings(**(GOOD | {key: value}))
    assert error.value.errors()[0]["loc"][0] == key
