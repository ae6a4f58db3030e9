"""`python -m etastar`, the same as the command `etastar`."""

import os
import sys
from pathlib import Path

if sys.path[:1] in ([""], [os.getcwd()]) and not Path("etastar").is_dir():
    del sys.path[0]  # a file of this folder, named as a library, is not to be found for it

from etastar.cli import main

if __name__ == "__main__":
    main()
