"""The method itself, to be read first: prompts, segments, routing, divergences and the fused loss."""
