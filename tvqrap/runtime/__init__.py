"""Errors, files, signals, progress, devices: parts of every program of the package."""
