"""Measuring detectors, embedders and trackers on annotated data; needs the eval extra."""
