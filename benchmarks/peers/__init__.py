"""Other ways to serve the same model, each written as its own documentation and tutorials write it."""
