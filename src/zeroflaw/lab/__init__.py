"""The laboratory: data sets, metrics, corruptions, evaluation, benchmarks and published numbers."""
