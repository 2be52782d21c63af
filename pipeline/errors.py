"""Which errors are the user's to mend, and the exit code of each: 2 configuration or input, 3 storage."""

from __future__ import annotations

BAD_INPUT, STORAGE = 2, 3

_CODES = {
    "detectors.": {"DetectorError": BAD_INPUT, "RecordedError": BAD_INPUT},
    "reid.": {
        "EncoderError": BAD_INPUT,
        "ImageFileError": BAD_INPUT,
        "DatasetError": BAD_INPUT,
        "RecipeError": BAD_INPUT,
        "TrainingError": BAD_INPUT,
        "CheckpointError": BAD_INPUT,
    },
    "st_model.": {
        "StoreError": STORAGE,
        "LedgerError": BAD_INPUT,
        "MarketFileError": BAD_INPUT,
        "TooFewStays": BAD_INPUT,
        "SnapshotError": BAD_INPUT,
        "ExitError": BAD_INPUT,
    },
    "pipeline.": {
        "ConfigError": BAD_INPUT,
        "RunError": BAD_INPUT,
        "DeviceError": BAD_INPUT,
        "TablesFileError": BAD_INPUT,
        "FrozenError": BAD_INPUT,
        "SightingsFileError": BAD_INPUT,
        "ReplayError": BAD_INPUT,
        "ExplainError": BAD_INPUT,
        "CalibrateError": BAD_INPUT,
        "SourceError": BAD_INPUT,
        "WeightsError": BAD_INPUT,
        "PrivacyError": BAD_INPUT,
        "EditError": BAD_INPUT,
        "SaltError": BAD_INPUT,
        "AppError": BAD_INPUT,
        "EvaluationError": BAD_INPUT,
        "MotFileError": BAD_INPUT,
        "MarketTestError": BAD_INPUT,
        "ImageTestError": BAD_INPUT,
        "SearchError": BAD_INPUT,
        "JournalError": BAD_INPUT,
        "RunFolderError": BAD_INPUT,
        "ClipError": BAD_INPUT,
        "ExportError": BAD_INPUT,
        "MessageError": BAD_INPUT,
        "MetricsError": BAD_INPUT,
        "ForwardError": BAD_INPUT,
        "OutputError": STORAGE,
    },
}
"""Room -> error -> exit code. By name, because looking at an error must not import torch or Redis."""


def code_of(error: BaseException) -> int | None:
    """The exit code for an error of one of our error trees, or None when it is not one of them.

    >>> code_of(ZeroDivisionError()) is None
    True
    """
    for kind in type(error).__mro__:
        for room, codes in _CODES.items():
            if kind.__module__.startswith(room) and kind.__name__ in codes:
                return codes[kind.__name__]
    return None
