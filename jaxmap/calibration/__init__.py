"""Calibration of posterior samples on simulated surveys: is the truth one draw like the others?"""

from jaxmap.calibration.figure import draw_report
from jaxmap.calibration.intervals import score_fields
from jaxmap.calibration.mocks import MockFields
from jaxmap.calibration.report import build_report
from jaxmap.calibration.run import calibrate

__all__ = ["MockFields", "build_report", "calibrate", "draw_report", "score_fields"]
