"""DHSPG over a session, as `train` would have it, without a run around it."""

from __future__ import annotations

from onnx_oto.gradients.session.shards import ShardedSession
from onnx_oto.optim import DIRECTIONS, Dhspg, GroupIndex, Plan, Stretch
from onnx_oto.pipeline.budgeting import Goal
from onnx_oto.pipeline.optimizing import decayed, selector
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.zigs import Analysis
from onnx_oto.zigs.blocks import zig_blocks


def dhspg(analysis: Analysis, session: ShardedSession, plan: Plan, sparsity: float, direction: str) -> Dhspg:
    """Return the optimizer; the same share of every dimension goes."""
    entries, lanes = zig_blocks(analysis, session.slices)
    groups = GroupIndex(tuple(Stretch(*entry) for entry in entries), int(lanes.size))
    select = selector(analysis, lanes, TrainOptions(sparsity=sparsity, scope="dimension"), Goal())
    decay = decayed(analysis, session)
    return Dhspg(DIRECTIONS[direction](), session.params.size, groups, select, plan, decayed=decay)
