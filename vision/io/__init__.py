"""Input and output: images, video and sources in; result writers out."""
