"""What the processes of a run decide together between two steps, and the proof that they still train the same model.

Loss, gradients and statistics are sums over all, so that whatever follows from them (clipping, what is left out, what
diverged, which epoch is best) is decided alike everywhere without a question. Signals and clocks are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from onnx_oto.errors import PeersError
from onnx_oto.gradients import GradientSession
from onnx_oto.optim import Optimizer
from onnx_oto.peers.seam import Peers
from onnx_oto.training.keeping import Keeper

EVERY = 100
"""Steps from one comparison of the parameters to the next, besides those before checkpoints."""
_NOTHING = np.zeros(0, np.float32)


class Agreement:
    """stop: asked before every batch whether this process wishes to stop; when one does, all do.

    keeper: what is due is decided by the clock of rank 0.
    """

    def __init__(
        self,
        peers: Peers,
        session: GradientSession,
        optimizer: Optimizer,
        stop: Callable[[], bool],
        keeper: Keeper | None,
    ) -> None:
        self.peers = peers
        self.is_due = False
        self._session, self._optimizer = session, optimizer
        self._stop, self._keeper = stop, keeper

    def begin(self) -> None:
        """Raise PeersError where processes would not begin alike."""
        self.check(self._session.steps, deep=True)

    def stops(self) -> bool:
        """Say whether one of all wishes to stop. Between two steps `is_due` then says whether a checkpoint is due."""
        own = self._keeper is not None and self.peers.rank == 0 and self._keeper.is_due()
        stops, due = self.peers.add_up(_NOTHING, [float(self._stop()), float(own)])
        self.is_due = due > 0
        return stops > 0

    def look(self, step: int) -> None:
        """Compare now and then."""
        if step and step % EVERY == 0:
            self.check(step)

    def check(self, step: int, *, deep: bool = False) -> None:
        """Raise PeersError where processes do not hold the same bits. deep: of the optimizer too."""
        if self.peers.size == 1:
            return
        found = self.peers.gather(self._digest(deep))
        other = next((rank for rank, digest in enumerate(found) if digest != found[0]), None)
        if other is not None:
            raise PeersError(
                f"after step {step} rank {other} does not hold the same parameters as rank 0: use machines with the "
                "same processor and the same packages, and go on from the last checkpoint"
            )

    def _digest(self, deep: bool) -> bytes:
        hashed = hashlib.blake2b(digest_size=16)
        arrays = [np.asarray(self._session.params), np.asarray(self._session.statistics)]
        if deep:
            arrays += [np.ascontiguousarray(value) for value in self._optimizer.state().values()]
        for array in arrays:
            hashed.update(array.reshape(-1).view(np.uint8).data)
        return hashed.digest()
