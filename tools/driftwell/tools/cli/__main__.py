"""`python -m driftwell.tools.cli`: the command without the script, in the same interpreter."""

from driftwell.tools.cli import main

if __name__ == "__main__":
    main()
