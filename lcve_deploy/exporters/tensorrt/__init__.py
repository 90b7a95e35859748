"""Build TensorRT engines from a graph, on the operator's machine and without a key.

The same code uses the libraries ``tensorrt`` (10 and 11) and ``tensorrt_rtx`` (1.x). Needs the extra ``tensorrt`` or
``tensorrt-rtx``. Networks are strongly typed: the graph determines the precision.
"""

from lcve_deploy.exporters.tensorrt.options import HardwareCompatibility, PlanOptions
from lcve_deploy.exporters.tensorrt.parse import check_graph
from lcve_deploy.exporters.tensorrt.plan import BuiltPlan, build_plan

__all__ = ["BuiltPlan", "HardwareCompatibility", "PlanOptions", "build_plan", "check_graph"]
