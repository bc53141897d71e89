"""The service: detectors behind HTTP, a history that survives, a page, watched folders. No torch."""
