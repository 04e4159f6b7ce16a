"""Records become an adapter: methods, losses, the trainer, and the merge into the base."""

import logging

# At its import, bitsandbytes tells of an optional CPU kernel that is not installed. Before that import is here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
