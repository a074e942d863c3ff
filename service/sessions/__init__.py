"""Tracking sessions: a pipeline for each client's stream, fed by HTTP or a WebSocket and kept between frames."""
