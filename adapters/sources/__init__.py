"""Sources: pretrained networks, as data plus a loader."""
