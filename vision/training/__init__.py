"""Training of detectors and embedders with Lightning; needs the train extra."""
