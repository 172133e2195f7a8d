"""The bench of single kernels: what a device can do at most, and how near each kernel comes to it."""
