"""Judges: which criteria of a rubric a text meets, and whether its answer is right."""
