"""Images: files, tensors, color, masks and resampling."""
