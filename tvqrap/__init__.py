"""TVQ&RAP: 4x generative super-resolution by texture vector-quantization and
reconstruction-aware prediction (Li et al., ICLR 2026)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tvqrap.upscaling.upscaler import Upscaler

__all__ = ["Upscaler", "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: importing torch takes seconds, and most commands need none of it.
    if name == "Upscaler":
        from tvqrap.upscaling.upscaler import Upscaler

        return Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
