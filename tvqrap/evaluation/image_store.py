"""The images of a run as PNGs: what metrics of whole sets read, and what the page shows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvqrap.evaluation.cases import Case


class ImageStore:
    """Keeps HR, LR and what each model made of them, by the image's number in the run.

    Files are named by numbers alone, so that no image's or model's name matters to the file system.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        """Of the images, in the order in which they came."""
        self._models: list[str] = []
        self._counts: dict[Path, int] = {}

    def add(self, case: Case) -> None:
        """Keeps a case's images; those that could not be made are left out."""
        number = len(self.names)
        self.names.append(case.image)
        for kind, pixels in (("hr", case.hr), ("lr", case.lr)):
            if pixels is not None:
                self._keep(self.folder / kind, number, pixels)
        for model, made in case.made.items():
            folder = self.of_model(model)
            if not isinstance(made, str):
                self._keep(folder, number, made)

    def _keep(self, folder: Path, number: int, pixels: NDArray[np.uint8]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._counts[folder] = self._counts.get(folder, 0) + 1
        Image.fromarray(pixels).save(folder / f"{number:06d}.png", compress_level=1)

    @property
    def hr(self) -> Path:
        """Folder of the HR images."""
        return self.folder / "hr"

    def of_model(self, model: str) -> Path:
        """Folder of what a model made."""
        if model not in self._models:
            self._models.append(model)
        return self.folder / f"made{self._models.index(model)}"

    def count(self, folder: Path) -> int:
        """Images that were kept in one of the folders."""
        return self._counts.get(folder, 0)

    def read(self, folder: Path, number: int) -> NDArray[np.uint8] | None:
        """An image, uint8 (H, W, 3); None where there is none."""
        path = folder / f"{number:06d}.png"
        if not path.is_file():
            return None
        with Image.open(path) as image:
            return np.asarray(image)

    def pictures(self, number: int, models: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
        """What there is of one image, by `LR`, the models' names and `HR`, in this order."""
        folders = [("LR", self.folder / "lr")]
        folders += [(model, self.of_model(model)) for model in models]
        folders += [("HR", self.hr)]
        found = [(name, self.read(folder, number)) for name, folder in folders]
        return {name: pixels for name, pixels in found if pixels is not None}
