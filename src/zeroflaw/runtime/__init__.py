"""What a line needs to judge images: NumPy and Pillow, no torch."""
