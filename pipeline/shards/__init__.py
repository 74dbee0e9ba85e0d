"""Shards in the WebDataset layout, and the manifest of a set."""
