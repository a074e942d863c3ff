"""The tracking stage: detections (and embeddings) in, tracks with lasting ids out. Numpy and scipy only."""
