"""A camera that slides over a canvas of digits: pictures whose true motion is known, as a source of clips and as an environment.

May import ops and core. gymnasium is needed by `camera.env` alone. Legend: n cameras, t frames, w side of a picture; positions [... 2] are
(x, y) of the upper left corner in pixels of the canvas, whose edges meet (a torus), so that positions never end.
"""

from tacit.worlds.camera.canvas import SIZE, canvases, look
from tacit.worlds.camera.source import CameraClips
from tacit.worlds.camera.world import Cameras, CameraTasks, camera_tasks

__all__ = ["SIZE", "CameraClips", "CameraTasks", "Cameras", "camera_tasks", "canvases", "look"]
