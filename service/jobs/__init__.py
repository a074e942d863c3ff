"""Video jobs: an uploaded video is tracked and drawn in the background, and survives that the server is killed.

``service.py`` joins the parts and is what routes call. An upload goes through ``upload.py`` and ``probe.py`` into a row
of ``store.py``; a thread of ``runner.py`` takes it and runs ``track.py``, then ``render.py``; ``checkpoint.py`` makes
it go on where it was. ``folders.py`` owns the files, ``events.py`` tells listeners.
"""
