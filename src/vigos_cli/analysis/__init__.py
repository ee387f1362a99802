"""How much sampled tokens depend on the image and the reference (PALR, visual dependency)."""
