"""Running gradient graphs: flat memory, shards side by side, checked batches. Whoever made the graph."""
