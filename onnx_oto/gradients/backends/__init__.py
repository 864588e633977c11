"""What turns a training graph into a gradient graph."""
