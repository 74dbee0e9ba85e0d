"""Image files that are written whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.limits import files_up_to
from tvqrap.images.save import save_png


def noise(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_a_png_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "image.png"
    save_png(path, noise(10))
    with files_up_to(4000), pytest.raises(OSError):
        save_png(path, Image.fromarray(noise(50)))
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), noise(10))
    assert list(path.parent.iterdir()) == [path]
