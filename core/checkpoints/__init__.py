"""Files of weights: this project's own format, and safe readers for other formats."""
