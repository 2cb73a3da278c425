"""What people do with the cache and the cluster, never on the path of a query."""
