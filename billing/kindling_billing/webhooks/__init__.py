"""What the payment provider tells: verified, read anew where order matters, and booked once."""
