"""Faults at scale: kills at random moments, faults of the machine, malformed rows and hostile texts."""
