"""What lists are measured by, in NumPy: the definitions that losses are held to."""
