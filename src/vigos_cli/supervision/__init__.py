"""From samples to supervised rollouts: batches, rollouts, and what each teacher reads."""
