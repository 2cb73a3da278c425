"""What a cluster does while things break: `python -m chaos`, and `python -m chaos soak`. See docs/reliability.md."""
