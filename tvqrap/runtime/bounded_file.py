"""A file of which no more is asked for than it has."""

import os
from io import BufferedReader, FileIO
from pathlib import Path


class BoundedFile(BufferedReader):
    """A file, opened to be read, whose reads end with it.

    Lengths in damaged files go to exabytes, and a plain read takes that memory before it reads.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be opened."""
        super().__init__(FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > 0:
            size = min(size, max(0, self._size - self.tell()))
        return super().read(size)
