"""Pairs of an HR crop and its degraded LR images."""
