"""A file whose reads are limited to its size."""

import os
from io import BufferedReader, FileIO
from pathlib import Path


class BoundedFile(BufferedReader):
    """A file that is open for reading. A read asks for no more bytes than are left.

    A length in a damaged file may be exabytes. A plain read allocates that memory first.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be opened."""
        super().__init__(FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > 0:
            size = min(size, max(0, self._size - self.tell()))
        return super().read(size)
