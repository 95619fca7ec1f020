"""``python -m jaxmap`` is the command ``jaxmap``."""

from jaxmap.cli import entry

entry()
