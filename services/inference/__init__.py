"""From the inputs of a request to labels or vectors: preprocessing, feature cache, engine, ranking."""
