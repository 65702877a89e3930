"""Run the command as ``python -m perceptual_style.core.cli``, which torchrun does."""

import sys

from . import main

sys.exit(main())
