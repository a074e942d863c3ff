"""The routes under /v1 and those of operations: from HTTP to the service's parts and back."""
