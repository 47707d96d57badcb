"""Rows become examples, conversations and token ids. Imports no torch."""
