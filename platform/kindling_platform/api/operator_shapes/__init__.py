"""What answers to the operator look like, and their rows; one module per noun."""
