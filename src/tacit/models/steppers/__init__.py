"""Neural time-steppers: frames in, the next frames out. Parts of role "stepper": cnn, fno, fno-conditioned, unet."""

from tacit.models.steppers.ports import Ports

__all__ = ["Ports"]
