"""Asking the servers we forward to."""
