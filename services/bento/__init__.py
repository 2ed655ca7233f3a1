"""What BentoML runs: its own declared operations, and the mount of our application in front of it."""
