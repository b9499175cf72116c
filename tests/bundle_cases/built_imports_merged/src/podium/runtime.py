"""Runtime: the machine."""

import os
import sys

CORES = os.cpu_count()
ARGUMENTS = sys.argv[1:] if __name__ == "__main__" else []
os.environ.setdefault("PODIUM_GOLDEN", "1")
