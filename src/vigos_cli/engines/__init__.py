"""What writes the completions: in process, or behind HTTP."""
