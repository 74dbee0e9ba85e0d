"""The training engine: the loop, batches, checkpoints, schedules, and distributed sums."""
