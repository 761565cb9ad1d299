"""`python -m driftwell.tools.cli`: the `driftwell` command."""

from driftwell.tools.cli import main

main()
