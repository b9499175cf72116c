"""A: the first."""

import xgboost as xgb
