"""Losses and what they learn from."""
