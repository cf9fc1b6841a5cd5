"""Adds up what a plan needs and finds the best one. Pure numbers, no torch."""
