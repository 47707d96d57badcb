"""Procedures made of the other packages."""
