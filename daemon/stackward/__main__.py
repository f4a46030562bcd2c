"""`python -m stackward` is the same as the `stackward` command."""

import sys

from stackward.cli import main

sys.exit(main())
