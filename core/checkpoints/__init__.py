"""Files of weights: this project's own format, and safe readers for everybody else's."""
