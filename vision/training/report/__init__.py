"""What a run leaves for its reader: where it ran, curves, errors in pictures, and one page that shows them."""
