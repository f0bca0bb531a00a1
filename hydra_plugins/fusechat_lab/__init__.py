"""What this project adds to Hydra.  Hydra imports every module here at each start, so heavy imports come late."""
