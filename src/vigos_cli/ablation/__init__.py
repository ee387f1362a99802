"""Sweeps: which cells there are, which of them are done, and one report about all of them."""
