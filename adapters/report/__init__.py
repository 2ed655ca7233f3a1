"""Reports about a version: its metrics, mistakes and origin."""
