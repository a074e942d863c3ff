"""The detection stage: pictures in, boxes, scores and labels out."""
