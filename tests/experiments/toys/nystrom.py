"""The command line with toy claims in place of the real ones."""

import os
import resource
from importlib import import_module
from pathlib import Path

from experiments import claims
from nystrom_numerics.cli import main

if __name__ == "__main__":
    claims.names = lambda: ("fragile", "single", "squares", "wanting")
    claims.load = import_module
    if "TOY_FILE_BYTES" in os.environ:
        limit = int(os.environ["TOY_FILE_BYTES"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if "TOY_BEGUN" in os.environ:
        Path(os.environ["TOY_BEGUN"]).write_text("begun")
    main()
