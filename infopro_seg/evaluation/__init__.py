"""Scores of saved predictions."""
