"""Records of any folder of photographs or videos."""
