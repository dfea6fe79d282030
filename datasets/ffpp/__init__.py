"""FaceForensics++, with FaceShifter and DeepFakeDetection."""
