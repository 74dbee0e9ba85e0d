"""How many pixels are scored at the same time, so that large images do not fill the memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from tvqrap.memory import free_memory

BYTES_PER_PIXEL = 2200
"""What scoring takes of each HR pixel at most, with the default metrics (ST-LPIPS VGG takes the
most of it): measured, about 2 GB per megapixel."""
_SHARE = 0.5
"""Of the free memory that scoring may take; upscaling and finished images have the rest."""
_UNKNOWN = 4_000_000


def pixels_at_once() -> int:
    """Pixels of HR that the memory that is free now has room for. No score depends on it."""
    free = free_memory()
    return _UNKNOWN if free is None else int(_SHARE * free / BYTES_PER_PIXEL)


class PixelBudget:
    """Lets threads in while the pixels that they hold together stay within a number.

    An image that is larger than that is let in alone.
    """

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._held = 0
        self._changed = Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Waits until there is room for so many pixels, and keeps it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self.pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()
