"""dpaudit: verifies the differential-privacy claim of a fine-tuned language model."""

__version__ = "0.1.0"
