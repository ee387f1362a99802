"""One adapter a benchmark: its columns, its prompt, its grading rule and its figures."""
