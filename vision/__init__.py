"""Stride32: detect, track and segment objects in images and video. Start reading at vision/pipeline.py."""

__version__ = "0.1.0"
