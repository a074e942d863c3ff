"""Puts this folder on the path, so that tests here and below may import io_media."""
