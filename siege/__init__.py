"""What one client, one neighbour of Redis or one web page can take away: `python -m siege`. See docs/reliability.md."""
