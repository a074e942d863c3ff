"""The segmentation stage: frames in, a class for every pixel out."""
