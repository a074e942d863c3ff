"""Looking for faults in detection data: annotations, pictures and duplicates, and the report of what was found."""
