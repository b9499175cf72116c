"""B: the second."""

import podium.a as a
