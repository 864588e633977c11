"""Arrays that stay on a device: what numpy is asked of them becomes small graphs of plain ONNX, run where they are.

values.py   what is yet to be computed, as values without effects
graphs.py   such values as a model
vector.py   what stands for an array
room.py     the memory of a device, and the sessions that compute in it
proof.py    that it computes what numpy does
"""

from onnx_oto.runtime.resident.proof import require_exact
from onnx_oto.runtime.resident.room import Buffer, Pool, Room, place_of, refusal
from onnx_oto.runtime.resident.values import Value, held
from onnx_oto.runtime.resident.vector import Vector

__all__ = ["Buffer", "Pool", "Room", "Value", "Vector", "held", "place_of", "refusal", "require_exact"]
