"""TVQ&RAP: 4x generative super-resolution by texture vector-quantization and
reconstruction-aware prediction (Li et al., ICLR 2026)."""

__version__ = "0.1.0"
