"""B: the second."""

import workbench.kaggle
