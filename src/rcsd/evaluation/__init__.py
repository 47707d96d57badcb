"""A model evaluated on held-out sets, and evaluations compared."""
