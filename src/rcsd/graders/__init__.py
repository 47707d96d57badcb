"""Verdicts and scores of completions, by code or by a judge."""
