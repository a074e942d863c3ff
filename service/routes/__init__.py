"""The routes of the HTTP interface, one module a group of paths."""
