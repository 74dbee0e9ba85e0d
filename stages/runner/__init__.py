"""What surrounds a stage: params, fingerprint, lock, scratch folder, workers."""
