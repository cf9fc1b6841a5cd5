"""Scores of saved predictions, and pictures of samples."""
