"""Scores of upscaled images with intervals, and the report."""
