"""From prompts to rollouts: the sampler in process and the remote engines."""
