"""One way to run many independent tasks in three places: here, in processes, on Ray."""
