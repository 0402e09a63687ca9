"""Seeing the values that a net computes while it runs, without changing it."""
