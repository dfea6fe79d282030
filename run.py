"""python run.py --config=configs/demo.py --workdir=/tmp/demo"""

import sys

from deepfidelity_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
