"""Comparison of upscalers: methods, folders of images, and earlier results."""
