"""Training styles and upscalers, and optimizing pixels."""
