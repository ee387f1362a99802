"""The configuration: its keys, how Hydra composes it, and what a run records about itself."""
