"""Calibration of posterior samples on simulated surveys: is the truth one draw like the others?"""
