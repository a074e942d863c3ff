"""Data sets for training, read from COCO JSON and from folders of crops."""
