"""Load, quantise, adapt, save and merge models, and estimate their memory."""
