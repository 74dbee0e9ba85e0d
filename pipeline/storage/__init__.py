"""Where sets are stored: folders and object stores, locks and leases."""
