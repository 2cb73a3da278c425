"""A node: the processes on one host, and what they hand to each other."""
