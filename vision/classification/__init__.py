"""The classification stage: whole frames in, classes with probabilities or a measured value out."""
