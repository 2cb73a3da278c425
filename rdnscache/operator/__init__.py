"""Operators' tools for the cache and the cluster: never on the path of a query."""
