"""Backbones: the table of networks that turn pixels into features

One row for each, with the resolution and the input range it was made for. The range matters: a
network fed the wrong one fails without a word, so normalisation is a layer of the model and the
table is the only place that knows it. A Hub module's range is measured when it is ported.

    tiny                     a small net for rehearsals
    keras:EfficientNetV2S    keras.applications, with ImageNet-1k weights
    hub:imagenet21k-s        google/efficientnet-v2 of Kaggle Models, as TF-Hub published it
    hub:<folder>             a reusable TF2 SavedModel; also a kaggle.com or tfhub.dev address
"""

import difflib
import re
from pathlib import Path
from typing import Literal, NamedTuple, cast

from podium.handles import BackboneError, read_handle

# What a network wants of pixels from 0 to 255: as they are; 0 to 1; -1 to 1; -1 to just under 1;
# less ImageNet's mean, by its deviation; BGR less ImageNet's mean.
Scaling = Literal["none", "unit", "inception", "automl", "imagenet", "caffe"]

# train, test: px of the pretraining and of its test, the better choice for pixels.image_size;
# features: width of the pooled output; params: millions, without top; least: px it can be built at.
# Weights are keras's own files; * is weights_tf_dim_ordering_tf_kernels.
BACKBONE_TABLE = """
name                     family          train test features params scaling   least weights
tiny                     tiny               32   32      128    0.1 inception    16 -
keras:EfficientNetV2B0   EfficientNetV2    192  224     1280    5.9 imagenet     32 efficientnetv2-b0_notop.h5
keras:EfficientNetV2B1   EfficientNetV2    192  240     1280    6.9 imagenet     32 efficientnetv2-b1_notop.h5
keras:EfficientNetV2B2   EfficientNetV2    208  260     1408    8.8 imagenet     32 efficientnetv2-b2_notop.h5
keras:EfficientNetV2B3   EfficientNetV2    240  300     1536   12.9 imagenet     32 efficientnetv2-b3_notop.h5
keras:EfficientNetV2S    EfficientNetV2    300  384     1280   20.3 automl       32 efficientnetv2-s_notop.h5
keras:EfficientNetV2M    EfficientNetV2    384  480     1280   53.2 automl       32 efficientnetv2-m_notop.h5
keras:EfficientNetV2L    EfficientNetV2    384  480     1280  117.7 automl       32 efficientnetv2-l_notop.h5
keras:ConvNeXtTiny       ConvNeXt          224  224      768   27.8 imagenet     32 convnext_tiny_notop.h5
keras:ConvNeXtSmall      ConvNeXt          224  224      768   49.5 imagenet     32 convnext_small_notop.h5
keras:ConvNeXtBase       ConvNeXt          224  224     1024   87.6 imagenet     32 convnext_base_notop.h5
keras:ConvNeXtLarge      ConvNeXt          224  224     1536  196.2 imagenet     32 convnext_large_notop.h5
keras:ConvNeXtXLarge     ConvNeXt          224  224     2048  348.1 imagenet     32 convnext_xlarge_notop.h5
keras:DenseNet121        DenseNet          224  224     1024    7.0 imagenet     32 densenet121_*_notop.h5
keras:DenseNet169        DenseNet          224  224     1664   12.6 imagenet     32 densenet169_*_notop.h5
keras:DenseNet201        DenseNet          224  224     1920   18.3 imagenet     32 densenet201_*_notop.h5
keras:ResNet50V2         ResNetV2          224  224     2048   23.6 inception    32 resnet50v2_*_notop.h5
keras:ResNet101V2        ResNetV2          224  224     2048   42.6 inception    32 resnet101v2_*_notop.h5
keras:ResNet152V2        ResNetV2          224  224     2048   58.3 inception    32 resnet152v2_*_notop.h5
keras:ResNet50           ResNet            224  224     2048   23.6 caffe        32 resnet50_*_notop.h5
keras:ResNet101          ResNet            224  224     2048   42.7 caffe        32 resnet101_*_notop.h5
keras:ResNet152          ResNet            224  224     2048   58.4 caffe        32 resnet152_*_notop.h5
keras:MobileNet          MobileNet         224  224     1024    3.2 inception    32 mobilenet_1_0_224_tf_no_top.h5
keras:MobileNetV2        MobileNet         224  224     1280    2.3 inception    32 mobilenet_v2_*_1.0_224_no_top.h5
keras:MobileNetV3Small   MobileNet         224  224      576    0.9 inception    32 weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5
keras:MobileNetV3Large   MobileNet         224  224      960    3.0 inception    32 weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5
keras:Xception           Inception         299  299     2048   20.9 inception    71 xception_*_notop.h5
keras:InceptionV3        Inception         299  299     2048   21.8 inception    75 inception_v3_*_notop.h5
keras:InceptionResNetV2  Inception         299  299     1536   54.3 inception    75 inception_resnet_v2_*_notop.h5
keras:NASNetMobile       NASNet            224  224     1056    4.3 inception    32 nasnet_mobile_no_top.h5
keras:NASNetLarge        NASNet            331  331     4032   84.9 inception    32 nasnet_large_no_top.h5
keras:VGG16              VGG               224  224      512   14.7 caffe        32 vgg16_*_notop.h5
keras:VGG19              VGG               224  224      512   20.0 caffe        32 vgg19_*_notop.h5
"""  # noqa: E501
KERAS_STEM = "weights_tf_dim_ordering_tf_kernels"

# google/efficientnet-v2 of Kaggle Models: each set of weights, in its version there.
HUB_VERSIONS = {"imagenet1k": 2, "imagenet21k": 1, "imagenet21k-ft1k": 2}
HUB_MODEL = "google/efficientnet-v2/tensorFlow2"


class Backbone(NamedTuple):
    """One row of the table."""

    name: str  # as model.backbone takes it
    family: str
    architecture: str  # its name in keras.applications; "" if it is not there
    train_size: int  # px, at which it was pretrained
    image_size: int  # px, at which it was tested then; may be larger; 0: any
    features: int  # width of the pooled output; 0: only the module knows
    parameters: float  # millions, without top; 0 likewise
    scaling: Scaling  # a ported module's is measured anew
    smallest: int  # px, below which it cannot be built
    weights: str  # keras's file, a handle of Kaggle Models, or a folder; "" if there are none


def read_backbone_table(text: str) -> dict[str, Backbone]:
    """Turns the text above into rows by name, and adds the hub rows of each EfficientNetV2."""
    rows = dict[str, Backbone]()
    for line in text.strip().splitlines()[1:]:
        name, family, train, test, width, millions, scaling, smallest, weights = line.split()
        rows[name] = Backbone(
            name,
            family,
            architecture="" if weights == "-" else name.removeprefix("keras:"),
            train_size=int(train),
            image_size=int(test),
            features=int(width),
            parameters=float(millions),
            scaling=cast("Scaling", scaling),
            smallest=int(smallest),
            weights="" if weights == "-" else weights.replace("*", KERAS_STEM),
        )
    portable = [row for row in rows.values() if row.family == "EfficientNetV2"]
    for kind in ("feature-vector", "classification"):
        for data, version in HUB_VERSIONS.items():
            for row in portable:
                size = row.architecture.removeprefix(row.family).lower()
                name = f"hub:{data}-{size}" + ("" if kind == "feature-vector" else f"-{kind}")
                handle = f"{HUB_MODEL}/{data}-{size}-{kind}/{version}"
                rows[name] = row._replace(name=name, scaling="unit", weights=handle)
    return rows


BACKBONES = read_backbone_table(BACKBONE_TABLE)


def find_backbone(name: str) -> Backbone:
    """Looks a backbone up by its name in the table, by a handle or address, or by its folder.

    Raises BackboneError with the nearest names.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    where = name.removeprefix("hub:")
    if name.startswith(("hub:", "https://")):
        handle = read_handle(where)
        if re.fullmatch(
            r"imagenet[\w-]*-xl(-\w+)*", (handle or where).split("/")[3 if handle else 0]
        ):
            raise BackboneError(
                f"model.backbone is {name}, but Keras has no EfficientNetV2 XL to carry its "
                f"weights; take l, or give the downloaded module's folder, hub:/path, which "
                f"TensorFlow can run as it is"
            )
        for row in BACKBONES.values():
            if handle and handle.split("/")[:4] == row.weights.split("/")[:4]:
                return row._replace(weights=handle) if handle.count("/") == 4 else row
        if handle or "/" in where or "\\" in where or Path(where).is_dir():
            source = handle or where
            return Backbone(*(f"hub:{source}", "SavedModel", "", 0, 0, 0, 0.0, "unit", 16, source))
    near = difflib.get_close_matches(name, BACKBONES, n=4, cutoff=0.4) or list(BACKBONES)[:4]
    raise BackboneError(
        f"model.backbone {name!r} is not in the table; did you mean {', '.join(near)}? "
        f"make backbones lists all"
    )
