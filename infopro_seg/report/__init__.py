"""Draws and prints what others computed; computes nothing."""
