"""What a version is, where its bytes are, and how to open it."""
