"""From prepared samples to supervised rollouts: batches and what each teacher reads."""
