"""`python -m etastar`, the same as the command `etastar`."""

from etastar.cli import main

if __name__ == "__main__":
    main()
