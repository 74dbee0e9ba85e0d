"""Running of a stage: params, fingerprint, lock, scratch folder, publishing, workers."""
