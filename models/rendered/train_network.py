"""The detector's network and its losses, in Keras: a small MobileNet-like backbone, point heads at stride 8."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.rendered.train_pictures import COLUMNS, POINTS, ROWS, STRIDE_PX

layers = keras.layers
CLASSES = 3


def _normed(x: Any, name: str, relu: bool = True) -> Any:
    x = layers.BatchNormalization(momentum=0.96, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


def _conv(x: Any, channels: int, name: str, kernel: int = 1, stride: int = 1, relu: bool = True) -> Any:
    x = layers.Conv2D(channels, kernel, stride, "same", use_bias=False, name=name)(x)
    return _normed(x, name, relu)


def _depthwise(x: Any, name: str, kernel: int = 3) -> Any:
    return _normed(layers.DepthwiseConv2D(kernel, 1, "same", use_bias=False, name=name)(x), name)


def _inverted(x: Any, expansion: int, name: str, kernel: int = 3) -> Any:
    """An inverted residual block of unchanged size."""
    channels = x.shape[-1]
    y = _conv(x, channels * expansion, f"{name}_up")
    y = _depthwise(y, f"{name}_dw", kernel)
    return layers.Add(name=f"{name}_add")([x, _conv(y, channels, f"{name}_down", relu=False)])


def build() -> tuple[Any, Any, Any]:
    """(whole model, backbone, head): pictures (B, 240, 320, 3) in 0–1 -> boxes (B, 1200, 4) in strides, scores (B, 1200, 3).

    Backbone and head are models of their own, so that one can be frozen and the other made anew.
    """
    picture = keras.Input((ROWS * STRIDE_PX, COLUMNS * STRIDE_PX, 3), name="picture")
    x = _conv(picture, 12, "stem", 3, 2)
    x = _conv(x, 24, "stage4", 3, 2)
    x = _conv(x, 40, "stage8", 3, 2)
    fine = x = _inverted(x, 2, "block8")
    x = _conv(x, 64, "stage16", 3, 2)
    for index in range(3):
        x = _inverted(x, 2, f"block16_{index}", 5)
    coarse = layers.UpSampling2D(2, name="coarse_up")(_conv(x, 48, "coarse", relu=False))
    x = layers.Add(name="fuse")([_conv(fine, 48, "fine", relu=False), coarse])
    x = _conv(_depthwise(x, "neck_dw"), 48, "neck")
    backbone = keras.Model(picture, x, name="backbone")

    features = keras.Input((ROWS, COLUMNS, 48), name="features")
    y = _conv(_depthwise(features, "box_dw"), 32, "box_mix")
    boxes = layers.Conv2D(4, 1, name="box_out", bias_initializer=keras.initializers.Constant(2.0))(y)
    boxes = layers.Reshape((POINTS, 4), name="boxes")(layers.ReLU(name="box_relu")(boxes))
    y = _conv(_depthwise(features, "score_dw"), 32, "score_mix")
    scores = layers.Conv2D(CLASSES, 1, name="score_out", bias_initializer=keras.initializers.Constant(-4.0))(y)
    scores = layers.Reshape((POINTS, CLASSES), name="scores")(layers.Activation("sigmoid", name="score_sigmoid")(scores))
    head = keras.Model(features, [boxes, scores], name="head")
    boxes, scores = head(backbone(picture))
    return keras.Model(picture, [boxes, scores], name="yard"), backbone, head


def score_loss(wanted: Any, given: Any) -> Any:
    """Quality focal loss with soft targets, per unit of wanted score."""
    given = tf.clip_by_value(given, 1e-5, 1 - 1e-5)
    entropy = -(wanted * tf.math.log(given) + (1 - wanted) * tf.math.log(1 - given))
    return tf.reduce_sum(tf.square(wanted - given) * entropy) / tf.maximum(tf.reduce_sum(wanted), 1.0)


def box_loss(wanted: Any, given: Any, weight: Any) -> Any:
    """Generalised IoU loss of left, top, right, bottom distances from a common point, plus a little absolute error."""
    wide = tf.minimum(wanted[..., 0], given[..., 0]) + tf.minimum(wanted[..., 2], given[..., 2])
    high = tf.minimum(wanted[..., 1], given[..., 1]) + tf.minimum(wanted[..., 3], given[..., 3])
    inter = wide * high
    area_w = (wanted[..., 0] + wanted[..., 2]) * (wanted[..., 1] + wanted[..., 3])
    area_g = (given[..., 0] + given[..., 2]) * (given[..., 1] + given[..., 3])
    union = area_w + area_g - inter
    hull = (tf.maximum(wanted[..., 0], given[..., 0]) + tf.maximum(wanted[..., 2], given[..., 2])) * (
        tf.maximum(wanted[..., 1], given[..., 1]) + tf.maximum(wanted[..., 3], given[..., 3]))
    giou = inter / (union + 1e-6) - (hull - union) / (hull + 1e-6)
    far = tf.reduce_mean(tf.abs(wanted - given), axis=-1)
    return tf.reduce_sum(weight * ((1 - giou) + 0.1 * far)) / tf.maximum(tf.reduce_sum(weight), 1.0)
