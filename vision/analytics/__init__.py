"""What finished tracks add up to: line and zone counters, dwell times, and pictures of where objects were."""
