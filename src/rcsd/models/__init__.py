"""The policy: loaded, scored, packed, saved."""
