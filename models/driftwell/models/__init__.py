"""What a model is, to edge and cloud alike: bundles, networks, adaptable state."""
