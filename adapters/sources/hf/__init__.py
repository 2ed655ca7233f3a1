"""``hf:`` encoders of texts and pictures in Hugging Face's format, from a folder or the cache of its hub."""
