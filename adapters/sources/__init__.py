"""Where a transfer starts: pretrained networks, as data plus a loader."""
