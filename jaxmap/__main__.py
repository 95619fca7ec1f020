"""``python -m jaxmap`` is the command ``jaxmap``."""

import sys

from jaxmap.cli import main

sys.exit(main())
