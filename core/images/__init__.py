"""Image files and image tensors, color, masks and resampling."""
