"""``bundled:glyphs``: a small network that this project trains on printed letters."""
