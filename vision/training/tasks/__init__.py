"""Lightning modules: what one training step does for each kind of model."""
