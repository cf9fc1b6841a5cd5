"""Losses of local heads that mmseg lacks."""
