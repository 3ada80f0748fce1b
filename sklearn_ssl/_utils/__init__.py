"""Helpers shared by all subpackages: arguments, docstrings, devices, processes, files, messages."""
