"""From a graph to a TensorRT engine: on the operator's machine, without a key.

One code path over the libraries ``tensorrt`` (10 and 11) and ``tensorrt_rtx`` (1.x). Needs the extra
``tensorrt`` or ``tensorrt-rtx``. Networks are strongly typed: the precision is what the graph says.
"""

from lcve_deploy.exporters.tensorrt.options import HardwareCompatibility, PlanOptions
from lcve_deploy.exporters.tensorrt.parse import check_graph
from lcve_deploy.exporters.tensorrt.plan import BuiltPlan, build_plan
from lcve_deploy.exporters.tensorrt.refit import refit_plan

__all__ = ["BuiltPlan", "HardwareCompatibility", "PlanOptions", "build_plan", "check_graph", "refit_plan"]
