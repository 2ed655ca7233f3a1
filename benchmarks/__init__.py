"""Measured claims: every figure that the documentation states comes from a command in here."""
