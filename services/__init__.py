"""Serves versions over HTTP, and holds the command line, which mounts the commands of all packages."""
