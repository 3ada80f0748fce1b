"""Shared parts of estimators with labels: unlabeled rows, unreadable files, torch modules."""
