"""Mutated requests over every route: what is asked, how it is spoilt, how it is sent, and what came of it."""
