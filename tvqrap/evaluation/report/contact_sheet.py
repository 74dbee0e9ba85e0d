"""Contact sheets: the same crops by several upscalers, side by side, at full resolution."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_BACKGROUND = (24, 24, 24)
_TEXT = (236, 236, 236)
_GAP = 8
_HEADER = 34
_CAPTION = 24


@dataclass(frozen=True)
class SheetRow:
    """One photograph: its name and one picture per column, uint8 (H, W, 3) of any size."""

    label: str
    cells: Sequence[NDArray[np.uint8]]


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def contact_sheet(columns: Sequence[str], rows: Sequence[SheetRow]) -> Image.Image:
    """Draws a labelled grid of pictures at full resolution.

    A picture smaller than the largest of its row (an LR image) is enlarged by a whole factor with
    nearest neighbours. Raises ValueError for a row without a picture per column.
    """
    for row in rows:
        if len(row.cells) != len(columns):
            raise ValueError(f"{row.label}: {len(row.cells)} pictures for {len(columns)} columns")
    heights = [max(cell.shape[0] for cell in row.cells) for row in rows]
    width = max((cell.shape[1] for row in rows for cell in row.cells), default=1)
    size = (
        _GAP + len(columns) * (width + _GAP),
        _HEADER + sum(height + _CAPTION + _GAP for height in heights),
    )
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    header, caption = ImageFont.load_default(20), ImageFont.load_default(14)
    for index, title in enumerate(columns):
        x = _GAP + index * (width + _GAP) + width / 2
        draw.text((x, _HEADER / 2), _fit(title, header, width), _TEXT, header, anchor="mm")
    y = _HEADER
    for row, height in zip(rows, heights, strict=True):
        for index, cell in enumerate(row.cells):
            picture = Image.fromarray(cell)
            factor = max(1, min(height // picture.height, width // picture.width))
            if factor > 1:
                larger = (picture.width * factor, picture.height * factor)
                picture = picture.resize(larger, Image.Resampling.NEAREST)
            sheet.paste(picture, (_GAP + index * (width + _GAP), y))
        label = _fit(row.label, caption, size[0] - 2 * _GAP)
        draw.text((_GAP, y + height + _CAPTION / 2), label, _TEXT, caption, anchor="lm")
        y += height + _CAPTION + _GAP
    return sheet
