"""What all rooms use: arguments, docstrings, devices, random numbers."""
