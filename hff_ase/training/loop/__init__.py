"""The training loop: batches, steps, processes, state, log."""
