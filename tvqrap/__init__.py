"""TVQ&RAP: 4x generative super-resolution by texture vector-quantization and
reconstruction-aware prediction (Li et al., ICLR 2026)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tvqrap.upscaling.files import Outcome, upscale_file, upscale_files
    from tvqrap.upscaling.settings import OutputSettings
    from tvqrap.upscaling.upscaler import Upscaler

__all__ = [
    "Outcome",
    "OutputSettings",
    "Upscaler",
    "__version__",
    "upscale_file",
    "upscale_files",
]

_MODULES = {
    "Outcome": "files",
    "OutputSettings": "settings",
    "Upscaler": "upscaler",
    "upscale_file": "files",
    "upscale_files": "files",
}


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: importing torch takes seconds, and most commands need none of it.
    if name in _MODULES:
        return getattr(import_module(f"tvqrap.upscaling.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
