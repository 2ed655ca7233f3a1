"""From a request's inputs to labels or vectors: preprocessing, feature cache, engine, ranking."""
