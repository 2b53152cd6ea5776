"""The figures of the textbooks, one file a chapter. `figure.py` says what a figure is."""
