"""Serve a checkpoint, ask it a benchmark's questions, have the answers judged, and score them with intervals."""
