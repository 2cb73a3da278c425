"""A node: the processes on one host, and what they pass to each other."""
