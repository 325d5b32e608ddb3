"""What happens in one forward and backward pass, as numbers."""
