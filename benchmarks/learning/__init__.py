"""Learning quality: protocols B1-B6 and OOS of `docs/design.md` section 8, on the worker's own learner.

    python -m benchmarks.learning.b1 --data ../shared/data --seeds 5

Every row that is Pawl runs the learner's own steps (`worker/updates`: propose, gate, publish, commit) on
a SQLite file and an artefact folder, and answers with the classifier loaded from the published
version. Only HTTP, Redis and the SQL server are left out: they change no number here.
"""
