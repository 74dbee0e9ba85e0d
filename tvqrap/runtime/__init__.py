"""What every program of the package needs around its work: errors, files, progress, devices."""
