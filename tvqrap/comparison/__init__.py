"""Comparing upscalers: other methods, folders of images, and earlier results."""
