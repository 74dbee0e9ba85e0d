"""Scores of upscaled images with intervals, and their report."""
