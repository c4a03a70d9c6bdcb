"""Golden trajectories: a short seeded trajectory of every task, made once and kept, to notice a changed simulator.

`config/golden/<family>.yaml` says what is replayed (the settings of the family, under a name for each choice), what it
was made with, and the hash of each trajectory; `<family>.npz` beside it holds the numbers, so that a replay which is
not equal can say where it leaves the path. Families are found as everywhere, by their file; no list of them is kept.

playing.py plays, comparing.py says what a difference means, stored.py reads and makes the files. No run imports this.
"""

PAGE = "docs/doctor.md"
