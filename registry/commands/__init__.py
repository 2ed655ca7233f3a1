"""The commands of a registry, and what every command shares."""
