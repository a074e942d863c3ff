"""Offline batch jobs: many inputs to Parquet, each row exactly once, on one machine or a Ray cluster."""
