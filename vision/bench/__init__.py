"""What models cost and what they bring: latency, size and accuracy side by side (``stride32 models bench``)."""
