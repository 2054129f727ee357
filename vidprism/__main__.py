"`python -m vidprism`, as launchers of several processes start it."
import sys
from .cli import main

sys.exit(main())
