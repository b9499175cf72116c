"""B: the second."""

import pandas as np
