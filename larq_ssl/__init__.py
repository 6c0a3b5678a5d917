"""Self-supervised learning for binary neural networks."""
