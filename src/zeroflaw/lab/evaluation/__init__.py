"""Detectors on labelled images: one pass over the images shared by all detectors, and rows of metrics."""
