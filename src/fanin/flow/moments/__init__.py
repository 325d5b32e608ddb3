"""What the draw of the weights makes of a signal: predicted from a trace, without running it."""

from __future__ import annotations

from fanin.flow.moments.forward import Forward, Scales
from fanin.flow.moments.moments import Incoming, Moments, ParameterMoments
from fanin.flow.moments.predict import predict, prediction_of
from fanin.flow.moments.prediction import Predicted, Prediction

__all__ = [
    "Forward",
    "Incoming",
    "Moments",
    "ParameterMoments",
    "Predicted",
    "Prediction",
    "Scales",
    "predict",
    "prediction_of",
]
