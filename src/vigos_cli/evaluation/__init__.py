"""Benchmarks: items, answers, figures, comparisons and the judge."""
