"""Measures rdnscache beside other DNS servers: `python -m bench --help`."""
