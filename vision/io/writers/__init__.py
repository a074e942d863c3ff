"""Result writers, one file format each; all write .part files and rename when complete."""
