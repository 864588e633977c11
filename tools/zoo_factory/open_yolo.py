"""A detector of three scales with its decoding and selection in the graph, as end-to-end YOLOs are exported."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo_factory.extra_blocks import conv_bn

STRIDES = (8, 16, 32)


def _conv(cin: int, cout: int, k: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    return conv_bn(cin, cout, k, stride, groups, act="silu")


class Yolo(nn.Module):
    """Backbone, neck, heads for boxes (distributions over distances) and classes.

    size: side of the image whose anchor points are stored, None computes them from the maps. tail: "gather" or
    "index" select the best detections in two ways, "none" returns all predictions.
    """

    CLASSES, BINS, DETECTIONS = 6, 8, 20
    points: torch.Tensor
    strides: torch.Tensor

    def __init__(self, tail: str = "gather", size: int | None = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 16, stride=2), _conv(16, 24, stride=2), _conv(24, 32, stride=2))
        self.four, self.five = _conv(32, 48, stride=2), _conv(48, 64, stride=2)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.neck_four, self.neck_three = _conv(64 + 48, 48), _conv(48 + 32, 32)
        widths = (32, 48, 64)
        self.box = nn.ModuleList(self._box(width) for width in widths)
        self.cls = nn.ModuleList(self._cls(width) for width in widths)
        self.mean = nn.Conv2d(self.BINS, 1, 1, bias=False)
        self.mean.weight.data = torch.arange(self.BINS, dtype=torch.float).view(1, -1, 1, 1)
        self.tail, self.stored = tail, size is not None
        points, strides = anchors([(size // s, size // s) for s in STRIDES] if size else [])
        self.register_buffer("points", points)
        self.register_buffer("strides", strides)

    def _box(self, width: int) -> nn.Module:
        return nn.Sequential(_conv(width, 24), _conv(24, 24), nn.Conv2d(24, 4 * self.BINS, 1))

    def _cls(self, width: int) -> nn.Module:
        depthwise = _conv(width, width, groups=width)
        return nn.Sequential(depthwise, _conv(width, 28, 1), nn.Conv2d(28, self.CLASSES, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return what the tail says of an image [N, 3, H, W] with H and W multiples of 32."""
        three = self.stem(image)
        four = self.four(three)
        five = self.five(four)
        four = self.neck_four(torch.cat([self.up(five), four], 1))
        three = self.neck_three(torch.cat([self.up(four), three], 1))
        maps = [
            torch.cat([box(x), cls(x)], 1)
            for box, cls, x in zip(self.box, self.cls, (three, four, five), strict=True)
        ]
        predictions = self._decode(maps)
        if self.tail == "none":
            return predictions
        return self._select(predictions.permute(0, 2, 1))

    def _decode(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return corners and class scores of every place: [N, 4 + classes, places]."""
        n = maps[0].shape[0]
        flat = torch.cat([m.view(n, 4 * self.BINS + self.CLASSES, -1) for m in maps], 2)
        box, cls = flat.split((4 * self.BINS, self.CLASSES), 1)
        distances = box.view(n, 4, self.BINS, -1).transpose(2, 1).softmax(1)
        before, behind = self.mean(distances).view(n, 4, -1).chunk(2, 1)
        points, strides = self.points, self.strides
        if not self.stored:
            points, strides = anchors([m.shape[2:] for m in maps])
        boxes = torch.cat([points - before, points + behind], 1) * strides
        return torch.cat([boxes, cls.sigmoid()], 1)

    def _select(self, predictions: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return the best boxes with their scores and classes, best first."""
        boxes, scores = predictions.split([4, self.CLASSES], -1)
        index = scores.amax(-1).topk(self.DETECTIONS)[1].unsqueeze(-1)
        boxes = boxes.gather(1, index.repeat(1, 1, 4))
        scores = scores.gather(1, index.repeat(1, 1, self.CLASSES))
        scores, index = scores.flatten(1).topk(self.DETECTIONS)
        place, kind = index // self.CLASSES, index % self.CLASSES
        if self.tail == "gather":
            picked = boxes.gather(1, place.unsqueeze(-1).repeat(1, 1, 4))
            return torch.cat([picked, scores[..., None], kind[..., None].float()], -1)
        return boxes[torch.arange(boxes.shape[0])[..., None], place], scores, kind


def anchors(sizes: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the centres [2, places] and strides [1, places] of all places of the maps."""
    points, strides = [torch.zeros(0, 2)], [torch.zeros(0, 1)]
    for (h, w), stride in zip(sizes, STRIDES, strict=False):
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        points.append(torch.stack((x, y), -1).reshape(-1, 2))
        strides.append(torch.full((h * w, 1), float(stride)))
    return torch.cat(points).T, torch.cat(strides).T
