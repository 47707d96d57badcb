"""Data: rows become examples, strictly; importers and placebos."""
