"""Scores of tracks step by step: files, whether they fit, TrackEval's input, matches, figures and the report."""
