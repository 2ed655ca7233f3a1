"""BentoML's declared operations, and the middleware that mounts our application in BentoML."""
