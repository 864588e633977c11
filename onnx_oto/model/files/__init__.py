"""Models on disk: read safely, checked, written so that nothing is lost."""
