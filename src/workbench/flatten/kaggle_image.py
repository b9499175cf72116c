"""Kaggle's image: the libraries that a script finds there."""

# Libraries by import name, and which of Kaggle's images hold them.
BOTH_IMAGES, GPU_IMAGE = ("GPU", "TPU"), ("GPU",)
KAGGLE_IMAGE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("albumentations", "cv2", "h5py", "jax", "keras", "kagglehub"), BOTH_IMAGES),
    **dict.fromkeys(("cloudpickle", "cryptography", "joblib", "kaggle_secrets"), BOTH_IMAGES),
    **dict.fromkeys(("matplotlib", "numpy", "pandas", "PIL", "requests", "scipy"), BOTH_IMAGES),
    **dict.fromkeys(("sklearn", "tensorflow", "tensorflow_hub", "tf_keras", "tqdm"), BOTH_IMAGES),
    **dict.fromkeys(("catboost", "kornia", "lightgbm", "optuna", "statsmodels"), GPU_IMAGE),
    **dict.fromkeys(("torchmetrics", "wandb", "xgboost"), GPU_IMAGE),
}
