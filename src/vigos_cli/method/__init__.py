"""The method: prompts, segments, routing, divergences and the fused loss. Read this first."""
