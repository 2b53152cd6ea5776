"""Encoders and detectors on environments."""
