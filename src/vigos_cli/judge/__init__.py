"""A language model grades answers beside the rules; nothing here imports torch."""
