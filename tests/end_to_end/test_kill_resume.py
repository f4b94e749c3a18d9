#!/usr/bin/env python3
"""Twenty kills of kill_resume.py. The seed is printed: a failure can be repeated with kill_resume.py --seed."""

import kill_resume

if __name__ == "__main__":
    kill_resume.main(["--kills", "20"])
