"""What the cloud does with modular models: train, plan, and fold in what devices learn."""
