"""The commands of serving, with and without a server."""
