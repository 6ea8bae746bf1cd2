"""Training at scale: `gdm train` runs a recipe with Lightning Fabric, and can be killed."""
