"""Grids of data sets, corruptions, detectors, backbones and seeds: run, resume, report."""
