"""B: the second."""

import keras
