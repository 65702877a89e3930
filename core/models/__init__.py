"""Networks with the facts needed to use them, and the controls: strength, stroke size, masks, video."""
