"""Data engineering: photographs to pairs, pairs to tokens, shards to training batches."""
