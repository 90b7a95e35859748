"""Classify or encrypt many videos with Ray Data. A batch that was killed resumes where it stopped.

Workers receive the path of the key file and read it themselves. No key, order or plain frame is passed to Ray, which
copies data to its object store, to disk and to other machines.
"""

from lcve_deploy.verbs.batch.cameras import assign_cameras
from lcve_deploy.verbs.batch.cluster import ClusterOptions
from lcve_deploy.verbs.batch.job import Job
from lcve_deploy.verbs.batch.running import BatchResult, Failure, Tally, run_batch
from lcve_deploy.verbs.batch.videos import find_videos

__all__ = ["BatchResult", "ClusterOptions", "Failure", "Job", "Tally", "assign_cameras", "find_videos", "run_batch"]
