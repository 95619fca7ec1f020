"""Training of the learned estimators on simulated or given convergence maps."""
