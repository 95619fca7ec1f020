"""The tables of Ho et al. (2019), ApJ 887, 25, and the targets that were set for our mocks."""

TABLE1 = {
    "pure": {"sigma15_km_s": 1078, "alpha": 0.345, "scatter": 0.056},
    "contaminated": {"sigma15_km_s": 971, "alpha": 0.254, "scatter": 0.059},
}
COLUMNS = ("median", "high", "low", "scatter", "skewness", "kurtosis", "count_bias")
TABLE2 = {
    name: dict(zip(COLUMNS, row, strict=True))
    for name, row in {
        "cnn1d": (-0.003, 0.173, -0.163, 0.174, 0.419, 0.826, 0.050),
        "cnn2d": (-0.003, 0.119, -0.125, 0.132, 0.221, 1.600, 0.017),
        "m_sigma_pure": (0.006, 0.179, -0.195, 0.193, -0.262, 0.417, 0.020),
        "m_sigma_contaminated": (-0.016, 0.300, -0.290, 0.316, 0.225, 0.647, 0.23),
        "sdm1d": (-0.039, 0.229, -0.187, 0.226, 0.646, 1.183, 0.178),
        "sdm2d": (-0.018, 0.149, -0.148, 0.159, 0.309, 1.459, 0.038),
    }.items()
}
TABLE3 = {
    "cnn1d": {"mu0": 0.01, "sigma0": 0.15, "sigma1": 0.05, "alpha0": 1.00},
    "cnn2d": {"mu0": 0.03, "sigma0": 0.11, "sigma1": 0.05, "alpha0": 1.00},
}
TABLE4 = {
    name: dict(zip(("median", "width"), row, strict=True))
    for name, row in {
        "cnn1d": (-0.049, 0.168),
        "cnn2d": (-0.026, 0.126),
        "m_sigma_pure": (0.005, 0.179),
        "m_sigma_contaminated": (0.006, 0.216),
        "sdm1d": (0.017, 0.244),
        "sdm2d": (-0.013, 0.268),
    }.items()
}
BANDS = {
    "m_sigma_pure": (0.18, 0.22),
    "m_sigma_contaminated": (0.30, 0.37),
    "sdm1d": (0.21, 0.25),
    "sdm2d": (0.155, 0.19),
    "cnn1d": (0.15, 0.18),
    "cnn2d": (0.12, 0.15),
}
"""Of the scatter on synthetic clusters in dex, set before any training."""
LABELS = {
    "m_sigma_pure": "M-sigma, pure",
    "m_sigma_contaminated": "M-sigma, contaminated",
    "sdm1d": "SDM1D",
    "sdm2d": "SDM2D",
    "cnn1d": "CNN1D",
    "cnn2d": "CNN2D",
}
