"""From a video file, a folder of frames, an array or a live source to uint8 clips, and back to something to look at.

Needs the extra ``video``, except for arrays.
"""

from lcve_deploy.video.read import VideoClips, read_clips
from lcve_deploy.video.write import encode_png, write_contact_sheet, write_video

__all__ = ["VideoClips", "encode_png", "read_clips", "write_contact_sheet", "write_video"]
