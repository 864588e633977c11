"""What settings are about: the headings of help, in their order. Most are sections of docs/training.md."""

from __future__ import annotations

GENERAL = "Options"
REMOVED = "What is removed"
DATA = "Data"
LOSSES = "Losses and metrics"
TEACHER = "A teacher"
BATCHES = "Batches"
AUGMENTATION = "Augmentation"
STEP = "The step"
PLAN = "The plan"
TRAINED = "What is trained"
STAYS = "What stays"
HANDED_BACK = "What is kept of the training"
INT8 = "An int8 model"
RUNNING = "Verification and limits"
MEASURED = "What is measured"
EVERYWHERE = "Every command"

TOPICS = (
    GENERAL,
    MEASURED,
    REMOVED,
    STAYS,
    DATA,
    LOSSES,
    TEACHER,
    BATCHES,
    AUGMENTATION,
    STEP,
    PLAN,
    TRAINED,
    HANDED_BACK,
    INT8,
    RUNNING,
    EVERYWHERE,
)
