"""A run from its checkpoint to its end: stages, checkpoints, signals, resuming, the summary."""
