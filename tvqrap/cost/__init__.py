"""Cost of the networks: arithmetic, time and memory."""
