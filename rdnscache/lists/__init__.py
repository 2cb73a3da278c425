"""Where lists come from, and how all nodes come to have the same."""
