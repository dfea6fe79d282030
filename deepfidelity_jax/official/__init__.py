"""The official project's checkpoint and regressor, to ours and back."""
