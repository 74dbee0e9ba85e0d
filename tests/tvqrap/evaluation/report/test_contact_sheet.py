"""Contact sheets."""

import numpy as np
import pytest

from tvqrap.evaluation.report.contact_sheet import SheetRow, contact_sheet


def test_pictures_are_shown_pixel_by_pixel_and_small_ones_enlarged() -> None:
    hr = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    lr = hr[::4, ::4]
    sheet = np.asarray(contact_sheet(["LR", "HR"], [SheetRow("a long name" * 20, [lr, hr])]))
    flat = np.lib.stride_tricks.sliding_window_view(sheet, hr.shape).reshape(-1, *hr.shape)
    assert (flat == hr).all((1, 2, 3)).any()
    assert (flat == lr.repeat(4, 0).repeat(4, 1)).all((1, 2, 3)).any()


def test_a_row_needs_a_picture_per_column() -> None:
    with pytest.raises(ValueError, match="b: 1 pictures for 2 columns"):
        contact_sheet(["LR", "HR"], [SheetRow("b", [np.zeros((4, 4, 3), dtype=np.uint8)])])
