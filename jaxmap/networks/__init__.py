"""Networks as pure functions of arrays; they know nothing of lensing."""
