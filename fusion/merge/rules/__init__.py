"""The merge rules: one file each, one frozen dataclass, whose fields are the hyperparameters."""
