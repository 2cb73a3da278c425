"""What people do with the cache and the cluster, through redis-py: never on the path of a query."""
