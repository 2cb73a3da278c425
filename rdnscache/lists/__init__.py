"""Lists of names: where they come from, and how all nodes get the same versions."""
