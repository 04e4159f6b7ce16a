"""``python -m edgereverie``: the same as the command ``edgereverie``."""

from edgereverie.cli.app import main

if __name__ == "__main__":
    main()
