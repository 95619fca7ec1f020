"""Mass-map estimators; all share one call, ``(key, ShearMap) -> MassMap``."""

from jaxmap.estimators.conditional_gan import ConditionalGAN
from jaxmap.estimators.deepmass import DeepMass
from jaxmap.estimators.finite_field import Estimator, default_margin, pad_shear
from jaxmap.estimators.hong import HongCNN
from jaxmap.estimators.kaiser_squires import KaiserSquires
from jaxmap.estimators.ks_plus import KSPlus
from jaxmap.estimators.maximum import MaximumPosterior
from jaxmap.estimators.mcalens import MCALens
from jaxmap.estimators.resampled import Resampled
from jaxmap.estimators.sampled import SampledPosterior
from jaxmap.estimators.sparse import Sparse
from jaxmap.estimators.survey_deepmass import SurveyDeepMass
from jaxmap.estimators.wiener import Wiener

__all__ = [
    "ConditionalGAN",
    "DeepMass",
    "Estimator",
    "HongCNN",
    "KSPlus",
    "KaiserSquires",
    "MCALens",
    "MaximumPosterior",
    "Resampled",
    "SampledPosterior",
    "Sparse",
    "SurveyDeepMass",
    "Wiener",
    "default_margin",
    "pad_shear",
]
