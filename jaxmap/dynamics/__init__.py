"""Dynamical masses of galaxy clusters, from the velocities and positions of their galaxies.

Every estimator is called ``(key, ClusterMembers) -> MassEstimate``. Masses are M200c in Msun/h,
lengths comoving Mpc/h, velocities km/s along the line of sight relative to the cluster.
"""
