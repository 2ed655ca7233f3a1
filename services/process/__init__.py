"""The processes of a server: supervisor and workers, from their start to their end."""
