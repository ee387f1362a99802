"""The method itself, read it first: prompts, segments, routing, divergences, the fused loss."""
