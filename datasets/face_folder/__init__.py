"""Any folder of photographs or videos, as records."""
