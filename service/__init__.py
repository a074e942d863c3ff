"""The HTTP inference service; it imports `vision`, never the other way round. Routes arrive with a later issue."""
