"""The training loop and one step of it, from a batch to a checkpoint."""
