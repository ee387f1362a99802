"""One adapter for each benchmark: its columns, prompt, grading rule and figures."""
