"""`python -m kmde_fw` is `kmde`."""

from kmde_fw.cli import main

main()
