"""Many videos to one table, or to encrypted clips, on Ray Data. If it is killed, it resumes where it stopped.

A worker is told where the key file is, and reads it itself: no key, no order and no plain frame is handed to Ray,
which copies what it is handed into its store, to disk and to other machines.
"""

from lcve_deploy.verbs.batch.cluster import ClusterOptions
from lcve_deploy.verbs.batch.job import Job
from lcve_deploy.verbs.batch.running import BatchResult, Failure, Tally, run_batch
from lcve_deploy.verbs.batch.videos import find_videos

__all__ = ["BatchResult", "ClusterOptions", "Failure", "Job", "Tally", "find_videos", "run_batch"]
