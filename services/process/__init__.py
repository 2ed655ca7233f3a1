"""The processes of a server: supervisor and workers, from start to end."""
