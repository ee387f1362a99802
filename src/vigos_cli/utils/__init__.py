"""General helpers: errors, files, random numbers, processes, progress, servers, statistics."""
