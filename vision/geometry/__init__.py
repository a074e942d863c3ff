"""Boxes, overlaps, letterboxing and masks: pure numpy functions used by every stage of a frame's path."""
