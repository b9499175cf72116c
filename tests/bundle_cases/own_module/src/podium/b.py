"""B: the second."""

import podium.a
