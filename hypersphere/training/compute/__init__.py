"""What a device computes: parts of a run, the step, its program."""
