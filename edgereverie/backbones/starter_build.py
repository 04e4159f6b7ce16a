from edgereverie.backbones.starter import *  # noqa
