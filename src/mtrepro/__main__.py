"""`python -m mtrepro` is the command `mtrepro`."""

from mtrepro.cli import main

if __name__ == "__main__":
    main()
