"""Files of tracks, read and written in all formats: ``read_tracks``, ``write_tracks``."""

from vision.io.tracks.files import read_track_file, read_tracks, write_tracks
from vision.io.writers.tracks_header import TracksHeader

__all__ = ["TracksHeader", "read_track_file", "read_tracks", "write_tracks"]
