"""Entry point of `python -m joblease_local`."""

import sys

from joblease_local.main import main

sys.exit(main())
