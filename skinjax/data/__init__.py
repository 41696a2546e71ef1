"""Published images to checked, split, sharded arrays, and from there to batches."""
