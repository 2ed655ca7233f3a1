"""Adaptation: from a pretrained source and a labelled dataset to a registered version."""
