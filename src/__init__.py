"""Lite-HRNet on MindSpore. Imported before MindSpore, so that its log starts at errors unless the user sets GLOG_v."""
import os

os.environ.setdefault('GLOG_v', '3')
