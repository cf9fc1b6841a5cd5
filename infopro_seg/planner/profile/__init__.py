"""What units, heads and steps cost, measured on fake tensors."""
