"""Sampling from scores: arrays and functions in, arrays out; nothing here knows of lensing."""
