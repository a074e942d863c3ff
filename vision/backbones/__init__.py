"""The CNN backbone package: feature pyramids and classifiers behind one interface."""
