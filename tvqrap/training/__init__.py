"""The training loop, the learner, batches, checkpoints, schedules and distributed sums."""
