"""How far sampled tokens depend on the picture and on the reference (PALR, visual dependency)."""
