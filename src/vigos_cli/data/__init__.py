"""Read data sets and turn their rows into samples."""
