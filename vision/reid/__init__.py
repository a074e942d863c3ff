"""The appearance stage: crops of detected objects in, unit-norm embeddings out."""
