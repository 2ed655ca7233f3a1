"""One page about one version: what it is, how good it is, where it errs, and what it was made of."""
