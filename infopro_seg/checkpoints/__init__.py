"""Checkpoint files: read, write, resume, export to stock mmseg."""
