"""Upscaling of images of any size."""
