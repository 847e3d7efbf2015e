"""``python -m loopnest``: the command line."""

from .cli import main

raise SystemExit(main())
