"""What all rooms use: arguments, docstrings, device and process, torch in isolation, warnings."""
