"""A: the first."""

import numpy as np
