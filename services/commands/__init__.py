"""The commands of serving: with a server, and without one."""
