"""Data engineering: photographs, degradation, shards, pairs, tokens, loading, executors."""
