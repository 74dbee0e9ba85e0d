"""The images of an evaluation as PNGs, for metrics of whole sets and for the report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvqrap.evaluation.cases import Case
from tvqrap.images.save import encoded
from tvqrap.runtime.atomic import naming


class ImageStore:
    """Stores HR, LR and the images of each model, by the image's number in its set.

    Names of files are numbers, so that no image's or model's name matters to the file system.
    """

    def __init__(self, folder: Path, models: Sequence[str]) -> None:
        self.folder = folder
        self.hr = folder / "hr"
        """Folder of the HR images."""
        self._made = {model: folder / f"made{index}" for index, model in enumerate(models)}
        self._folders = {"LR": folder / "lr", **self._made, "HR": self.hr}

    def add(self, number: int, case: Case) -> None:
        """Stores the images of a case; those that could not be made are left out."""
        for name, pixels in {"LR": case.lr, **case.made, "HR": case.hr}.items():
            folder = self._folders[name]
            path = self._path(folder, number)
            with naming(path):
                if not isinstance(pixels, np.ndarray):
                    path.unlink(missing_ok=True)
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(Image.fromarray(pixels), "PNG", compress_level=1))

    def of_model(self, model: str) -> Path:
        """Folder of a model's images."""
        return self._made[model]

    def count(self, folder: Path) -> int:
        """Number of images in one of the folders."""
        return sum(1 for _ in folder.glob("*.png"))

    @property
    def columns(self) -> list[str]:
        """Those of `LR`, the models' names and `HR` that have any image."""
        return [name for name, folder in self._folders.items() if folder.is_dir()]

    def pictures(self, number: int) -> dict[str, NDArray[np.uint8]]:
        """The images of one case by `LR`, the models' names and `HR`, in this order."""
        found = {name: self._read(folder, number) for name, folder in self._folders.items()}
        return {name: pixels for name, pixels in found.items() if pixels is not None}

    def _read(self, folder: Path, number: int) -> NDArray[np.uint8] | None:
        path = self._path(folder, number)
        if not path.is_file():
            return None
        with Image.open(path, formats=("PNG",)) as image:
            return np.asarray(image)

    def _path(self, folder: Path, number: int) -> Path:
        return folder / f"{number:06d}.png"
