"""Initialization for PyTorch models: `plan` what they start from, `initialize` them.

``from fanin import init`` stands in for ``from torch.nn import init``; the descriptions of
``fanin.initializers`` say what a parameter should hold before its shape is known.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fanin import init as init
from fanin import initializers as initializers
from fanin.errors import ArgumentError as ArgumentError
from fanin.errors import DtypeError as DtypeError
from fanin.errors import EngineError as EngineError
from fanin.errors import FaninError as FaninError
from fanin.errors import LayoutError as LayoutError
from fanin.errors import PlanError as PlanError
from fanin.errors import TraceError as TraceError
from fanin.errors import UnknownNameError as UnknownNameError
from fanin.gains import EmpiricalGain as EmpiricalGain
from fanin.gains import calculate_gain as calculate_gain
from fanin.gains import gain as gain
from fanin.geometry import Fans as Fans
from fanin.geometry import Layout as Layout
from fanin.geometry import Region as Region
from fanin.initialization import initialize as initialize
from fanin.initialization import plan as plan
from fanin.initializers import Initializer as Initializer
from fanin.initializers import parse as parse
from fanin.model import register_adapter as register_adapter
from fanin.model.construction import deferred as deferred
from fanin.planning import Plan as Plan
from fanin.planning import Recipe as Recipe
from fanin.planning import Rule as Rule
from fanin.planning import Step as Step
from fanin.planning import keep as keep
from fanin.planning import rule as rule
from fanin.stream import STREAM_VERSION as STREAM_VERSION
from fanin.stream import Key as Key

if TYPE_CHECKING:
    from fanin.auditing import Audit as Audit
    from fanin.auditing.audit import audit as audit
    from fanin.auditing.checkpoints import audit_checkpoint as audit_checkpoint
    from fanin.calibration import Calibration as Calibration
    from fanin.calibration import CalibrationError as CalibrationError
    from fanin.calibration.calibrate import calibrate as calibrate
    from fanin.checkpoint import verify_checkpoint as verify_checkpoint
    from fanin.checkpoint import write_checkpoint as write_checkpoint
    from fanin.flow import Trace as Trace
    from fanin.flow import trace as trace
    from fanin.flow.meanfield import critical as critical
    from fanin.flow.meanfield import mean_field as mean_field
    from fanin.flow.meanfield import phase_diagram as phase_diagram
    from fanin.flow.moments import Prediction as Prediction
    from fanin.model.inspection.inspect import inspect as inspect
    from fanin.planning.predicting import predict as predict
    from fanin.probing import SignalReport as SignalReport
    from fanin.probing.feature_maps import feature_maps as feature_maps
    from fanin.probing.probe import probe as probe
    from fanin.recipes import get_recipe as get_recipe
else:
    # Read when first asked for: `import fanin` is paid for by every user of `fanin.init`.
    _LATER = {
        "Audit": "fanin.auditing",
        "Calibration": "fanin.calibration",
        "CalibrationError": "fanin.calibration",
        "Prediction": "fanin.flow.moments",
        "SignalReport": "fanin.probing",
        "audit": "fanin.auditing",
        "audit_checkpoint": "fanin.auditing",
        "Trace": "fanin.flow",
        "calibrate": "fanin.calibration",
        "critical": "fanin.flow.meanfield",
        "feature_maps": "fanin.probing",
        "get_recipe": "fanin.recipes",
        "inspect": "fanin.model.inspection",
        "mean_field": "fanin.flow.meanfield",
        "phase_diagram": "fanin.flow.meanfield",
        "predict": "fanin.planning.predicting",
        "probe": "fanin.probing",
        "trace": "fanin.flow",
        "verify_checkpoint": "fanin.checkpoint",
        "write_checkpoint": "fanin.checkpoint",
    }

    def __getattr__(name):
        if name not in _LATER:
            raise AttributeError(f"module 'fanin' has no attribute {name!r}")
        return getattr(import_module(_LATER[name]), name)

    def __dir__():
        return sorted({*globals(), *_LATER})


__version__ = "0.1.0"
