"""Attention for policies, encoders and detectors: one operation, its masks, caches and layers."""
