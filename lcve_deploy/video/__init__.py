"""Read uint8 clips from video files, pictures, arrays and live sources, and write clips as videos or pictures.

Needs the extra ``video``, except for arrays.
"""

from lcve_deploy.video.read import VideoClips, read_clips
from lcve_deploy.video.write import encode_png, write_contact_sheet, write_video

__all__ = ["VideoClips", "encode_png", "read_clips", "write_contact_sheet", "write_video"]
