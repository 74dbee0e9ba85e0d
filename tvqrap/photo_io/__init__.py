"""Photographs in files: pixels, transparency, metadata, and the formats they are written to."""
