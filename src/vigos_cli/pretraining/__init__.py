"""How the shipped tiny model is made; its weights are package data in `tiny/`."""
