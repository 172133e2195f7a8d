"""`python -m kindling_platform.cli`."""

from kindling_platform.cli.main import main

main()
