"""Files of other projects."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tvqrap.pretrained.other import load_other
from tvqrap.runtime.errors import UserError


def test_a_layer_number_that_no_such_file_has_is_refused(tmp_path: Path) -> None:
    """spandrel would build a million blocks."""
    from spandrel.architectures.ESRGAN import ESRGAN

    file = tmp_path / "x.safetensors"
    state = ESRGAN(num_filters=8, num_blocks=40, scale=4).state_dict()
    save_file(state, file)
    assert load_other(file).scale == 4
    name, weight = next(iter(state.items()))
    hostile = {name: weight, "model.1.sub.1000000.RDB1.conv1.0.weight": torch.zeros(1)}
    save_file(hostile, file)
    with pytest.raises(UserError, match="numbers a layer 1000000, expected at most 64 of 2"):
        load_other(file)
