"""Settings of upscaled files: size, format and encoding. Uses neither torch nor numpy."""

from dataclasses import dataclass
from typing import Literal, get_args

from tvqrap.architecture import SCALE
from tvqrap.photo_io.formats import FORMATS, Format

Precision = Literal["float32", "bfloat16"]

Colour = Literal["keep", "match"]

Frames = Literal["first", "all"]

LARGEST_SCALE = 64
DEFAULT_QUALITY = 95


def check_choices(precision: str, colour: str) -> None:
    """Raises ValueError for another precision or colour than there are."""
    for name, value, allowed in (
        ("precision", precision, get_args(Precision)),
        ("colour", colour, get_args(Colour)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}, expected {' or '.join(allowed)}")


@dataclass(frozen=True)
class OutputSettings:
    """Size, format and encoding of upscaled files.

    Raises ValueError for an impossible value.
    """

    scale: float = SCALE
    """Factor of width and height, over 0 up to 64. The network's output is resampled to it."""
    size: tuple[int, int] | None = None
    """(width, height) that the output fits into, in place of `scale`; proportions are kept."""
    format: str | None = None
    """png, jpeg, webp, tiff or avif; None: by the output's ending, else the photograph's."""
    quality: int | None = None
    """1 to 100 for jpeg, webp and avif; 95 if None."""
    lossless: bool = False
    """Whether webp keeps every pixel."""
    compression: int | None = None
    """Effort of lossless compression, 0 to 9, for png (6 if None) and tiff (0, none, if None)."""
    max_pixels: int = 100_000_000
    """Pixels of the largest photograph that is read, or of all its frames or pages."""
    frames: Frames = "first"
    """Images that are upscaled of an animation or a file of several pages: the first, or all."""

    def __post_init__(self) -> None:
        if not 0 < self.scale <= LARGEST_SCALE:
            raise ValueError(
                f"scale is {self.scale:g}, expected more than 0, at most {LARGEST_SCALE}"
            )
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size is {self.size[0]}x{self.size[1]}, expected 1x1 or more")
        if self.size is not None and self.scale != SCALE:
            raise ValueError("size stands in place of scale, expected one of them")
        if self.format is not None and self.format not in FORMATS:
            raise ValueError(f"format is {self.format!r}, expected one of {', '.join(FORMATS)}")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}, expected 1 to 100")
        if self.quality is not None and self.lossless:
            raise ValueError("quality has no meaning with lossless, expected one of them")
        if self.compression is not None and not 0 <= self.compression <= 9:
            raise ValueError(f"compression is {self.compression}, expected 0 to 9")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is {self.max_pixels}, expected 1 or more")
        if self.frames not in get_args(Frames):
            raise ValueError(f"frames is {self.frames!r}, expected first or all")

    @property
    def form(self) -> Format | None:
        """The format that is asked for; None where names decide."""
        return None if self.format is None else FORMATS[self.format]

    @property
    def suffix(self) -> str:
        """Default suffix of an output's name, after the name of its photograph."""
        return f"_x{self.scale:g}" if self.size is None else f"_{self.size[0]}x{self.size[1]}"

    def check_used(self, forms: set[Format]) -> None:
        """Raises ValueError where an encoding is chosen that none of these formats has."""
        known = FORMATS.values()
        for name, chosen, able in (
            ("quality", self.quality is not None, {form for form in known if form.lossy}),
            ("lossless", self.lossless, {form for form in known if form.lossless}),
            ("compression", self.compression is not None, {f for f in known if f.compressed}),
        ):
            if chosen and forms and not forms & able:
                found = ", ".join(sorted(form.name for form in forms))
                expected = ", ".join(sorted(form.name for form in able))
                raise ValueError(f"{name} has no meaning for {found}, expected format {expected}")

    def enlarged(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the output for a photograph of this size.

        Raises ValueError where `size` is more than 64 times the photograph's.
        """
        factor = self.scale
        if self.size is not None:
            factor = min(self.size[0] / width, self.size[1] / height)
            if factor > LARGEST_SCALE:
                raise ValueError(
                    f"{width}x{height} would be enlarged {factor:.0f} times, expected at most "
                    f"{LARGEST_SCALE}"
                )
        return max(1, round(width * factor)), max(1, round(height * factor))

    def encoding(self, form: Format) -> dict[str, str]:
        """The choices that pixels of a file in this format depend on, for its record."""
        if not form.lossy:
            return {}
        if self.lossless and form.lossless:
            return {"quality": "lossless"}
        return {"quality": str(self.quality or DEFAULT_QUALITY)}
