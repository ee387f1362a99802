"""From a row of a data set to a sample."""
