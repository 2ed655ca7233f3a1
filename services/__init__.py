"""From HTTP bytes to answers, and the command line that mounts everything."""
