"""What serving is worth on an NVIDIA GPU; ``python -m benchmarks.gpu``."""
