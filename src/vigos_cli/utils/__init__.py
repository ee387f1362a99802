"""Helpers that know nothing of the method: errors, files, random numbers, processes, progress, statistics."""
