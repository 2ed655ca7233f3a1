"""Advice before anything is trained: what a source's features are worth for a dataset, and what follows from it."""
