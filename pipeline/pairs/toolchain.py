"""The CPU features and library versions that decide the bytes of pairs."""

from dataclasses import dataclass

import cv2
import numpy as np
import PIL
from PIL import features

from tvqrap.runtime.hardware import Machine


@dataclass(frozen=True)
class Toolchain:
    """CPU features and library versions of a worker. Equal toolchains make equal pairs."""

    cpu: str
    """Instruction sets that OpenCV has code for and this CPU has."""
    opencv: str
    ipp: str
    """Version of the primitives that OpenCV calls, with the CPU kind that they chose."""
    numpy: str
    pillow: str
    libjpeg: str
    zlib: str
    teacher: Machine | None
    """The machine of the teacher's network; None without a teacher."""

    def __str__(self) -> str:
        named = (
            f"OpenCV {self.opencv}, IPP {self.ipp}, NumPy {self.numpy}, Pillow {self.pillow}, "
            f"libjpeg {self.libjpeg}, zlib {self.zlib} and a CPU with {self.cpu}"
        )
        return named if self.teacher is None else f"{named}; teacher on {self.teacher}"

    @classmethod
    def here(cls, *, teacher: bool) -> "Toolchain":
        """The toolchain of this process; `teacher`: whether it runs a teacher too."""
        # OpenCV marks what it dispatches to with *, and what this CPU lacks with ?.
        named = cv2.getCPUFeaturesLine().split()
        return cls(
            cpu=" ".join(name.lstrip("*") for name in named if not name.endswith("?")),
            opencv=cv2.__version__,
            ipp=cv2.ipp.getIppVersion() if cv2.ipp.useIPP() else "none",
            numpy=np.__version__,
            pillow=PIL.__version__,
            libjpeg=_version("libjpeg_turbo", "jpg"),
            zlib=_version("zlib_ng", "zlib"),
            teacher=Machine.here("cpu") if teacher else None,
        )


def _version(*names: str) -> str:
    """Version of the first of these libraries that Pillow was built with."""
    for name in names:
        if features.check(name):
            return f"{name} {features.version(name)}"
    return "none"
