"""Images and boxes in, keypoints out: `from src.prediction import load_model`."""
from src.prediction.pose_model import PoseModel, load_model

__all__ = ['PoseModel', 'load_model']
