"""Shards to training batches, in a planned order."""
