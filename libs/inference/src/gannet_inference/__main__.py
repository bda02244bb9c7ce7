"""`python -m gannet_inference`: see `models_cli`."""

import sys

from gannet_inference.models_cli import main

sys.exit(main())
