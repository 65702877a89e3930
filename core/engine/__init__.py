"""The streaming engine: a network over images of any size, in planned memory."""
