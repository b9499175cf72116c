"""Podium: trains an image classifier on a Kaggle competition and leaves a submission.

The backend must be chosen before Keras is imported anywhere, so the runtime comes first.
"""

from podium import runtime as runtime
