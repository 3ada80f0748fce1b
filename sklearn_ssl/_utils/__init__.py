"""Helpers for all subpackages: arguments, docstrings, devices, processes, isolation, warnings."""
