"""Rollouts token by token: the verdict before training, PALR, visual dependency."""
