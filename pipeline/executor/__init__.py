"""Runs independent tasks in this process, in worker processes, or on Ray actors."""
