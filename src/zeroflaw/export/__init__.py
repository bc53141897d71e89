"""Towers and detectors as ONNX graphs, written only after they were shown to agree with torch."""
