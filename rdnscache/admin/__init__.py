"""What operators reach over HTTP: health, metrics, the live page."""
