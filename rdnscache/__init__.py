"""rdnscache: a clustered DNS cache whose nodes share one Redis."""

__version__ = "0.1.0"
