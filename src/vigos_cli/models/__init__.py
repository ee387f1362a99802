"""Load, quantise, adapt, save and merge models, and plan their memory."""
