"""Advice before training: how useful a source's features are for a dataset, and which technique to use."""
