"""``python -m perceptual_style.core.cli``: the command, as torchrun starts it."""

import sys

from . import main

sys.exit(main())
